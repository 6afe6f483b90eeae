// How the matrices of a plan go together into batches [b, n, d], because on a GPU each launch costs: equal shapes are
// stacked, small matrices of about as many rows are padded with zeros (a zero row is no row, a zero column changes no
// angle), a large one is a view of its own memory. Constants that tell rows apart lie on the device, made once.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <vector>

#include "../engine.hpp"

namespace mma::detail::nearest::portable {

/// t[begin, begin + count) along its first dimension, t itself where that is all of it: a view costs the host's time,
/// which is what a small matrix costs.
inline at::Tensor span_of(const at::Tensor& t, int64_t begin, int64_t count) {
  return count == t.size(0) ? t : t.narrow(0, begin, count);
}

/// Matrices that go together; their rows are padded to n, their dimensions to d.
struct Batch {
  std::vector<size_t> matrices;  ///< of the plan
  int64_t n = 0, d = 0;
  int64_t first_row = 0;     ///< in the batches' order, padding included
  int64_t first_matrix = 0;  ///< in the batches' order
  bool padded = false;

  int64_t size() const { return static_cast<int64_t>(matrices.size()); }
  int64_t rows() const { return size() * n; }

  /// Of a vector over all rows in the batches' order, this batch's [b, n].
  at::Tensor rows_of(const at::Tensor& vector) const { return span_of(vector, first_row, rows()).view({size(), n}); }

  /// Of a vector over all matrices in the batches' order, this batch's [b].
  at::Tensor matrices_of(const at::Tensor& vector) const { return span_of(vector, first_matrix, size()); }
};

/// Matrices of at most so many numbers are padded to go together.
inline constexpr int64_t small_matrix = int64_t{1} << 17;
/// Numbers of a batch of several: a temporary copy in float64 takes 64 MiB.
inline constexpr int64_t batch_numbers = int64_t{1} << 23;
/// Numbers of a tile between rows of a batch and rows of a batch: 128 MiB in float64, on a CPU 8.
inline int64_t tile_numbers(at::Device device) { return int64_t{1} << (device.is_cpu() ? 20 : 24); }

class Batches {
 public:
  explicit Batches(const std::vector<Matrix>& matrices) {
    for (const Matrix& matrix : matrices) {
      rows_.push_back(matrix.rows);
    }
    std::vector<size_t> order(matrices.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return kind_of(a) < kind_of(b); });
    for (const size_t m : order) {
      if (rows_[m].size(0) > 0) {
        append(m);
      }
    }
    number();
  }

  const std::vector<Batch>& all() const { return batches_; }
  int64_t row_count() const { return row_count_; }
  int64_t matrix_count() const { return matrix_count_; }
  bool padded() const {
    return std::any_of(batches_.begin(), batches_.end(), [](const Batch& batch) { return batch.padded; });
  }

  /// The rows of each batch [b, n, d] in their own type: a view of the weight where one goes alone.
  std::vector<at::Tensor> gathered() const {
    std::vector<at::Tensor> result;
    for (const Batch& batch : batches_) {
      result.push_back(gathered(batch));
    }
    return result;
  }

  /// The part of a batch's tensor [b, n, d] that belongs to its k-th matrix.
  at::Tensor part_of(const Batch& batch, const at::Tensor& tensor, int64_t k) const {
    const at::Tensor& rows = rows_[batch.matrices[static_cast<size_t>(k)]];
    const at::Tensor padded = tensor.select(0, k);
    return batch.padded ? padded.narrow(0, 0, rows.size(0)).narrow(1, 0, rows.size(1)) : padded;
  }

 private:
  /// What a matrix goes together with: equal shapes, of small ones about as many rows; sorted by dimension.
  std::tuple<bool, int64_t, int64_t, int64_t> kind_of(size_t m) const {
    const int64_t n = rows_[m].size(0), d = rows_[m].size(1);
    const bool small = n * d <= small_matrix;
    const auto about = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
    return {small, small ? about : n, d, n};
  }

  bool fits(const Batch& batch, size_t m) const {
    const auto [small, about, d, n] = kind_of(m);
    const auto [other_small, other_about, other_d, other_n] = kind_of(batch.matrices.front());
    const int64_t rows = std::max(batch.n, n), count = batch.size() + 1;
    return small == other_small && about == other_about && (small || d == other_d) &&
           count * rows * std::max(batch.d, d) <= batch_numbers &&
           count * rows * rows <= tile_numbers(rows_[m].device());
  }

  void append(size_t m) {
    if (batches_.empty() || !fits(batches_.back(), m)) {
      batches_.emplace_back();
    }
    Batch& batch = batches_.back();
    batch.matrices.push_back(m);
    batch.n = std::max(batch.n, rows_[m].size(0));
    batch.d = std::max({batch.d, rows_[m].size(1), int64_t{1}});
  }

  void number() {
    for (Batch& batch : batches_) {
      batch.first_row = row_count_;
      batch.first_matrix = matrix_count_;
      batch.padded = std::any_of(batch.matrices.begin(), batch.matrices.end(),
                                 [&](size_t m) { return rows_[m].size(0) != batch.n || rows_[m].size(1) != batch.d; });
      row_count_ += batch.rows();
      matrix_count_ += batch.size();
    }
  }

  at::Tensor gathered(const Batch& batch) const {
    if (!batch.padded && batch.size() == 1) {
      return rows_[batch.matrices.front()].unsqueeze(0);
    }
    if (!batch.padded) {
      std::vector<at::Tensor> parts;
      for (const size_t m : batch.matrices) {
        parts.push_back(rows_[m]);
      }
      return at::stack(parts);
    }
    at::Tensor result = at::zeros({batch.size(), batch.n, batch.d}, rows_[batch.matrices.front()].options());
    for (int64_t k = 0; k < batch.size(); ++k) {
      part_of(batch, result, k).copy_(rows_[batch.matrices[static_cast<size_t>(k)]]);
    }
    return result;
  }

  std::vector<at::Tensor> rows_;  ///< of each matrix of the plan
  std::vector<Batch> batches_;
  int64_t row_count_ = 0, matrix_count_ = 0;
};

/// Entries of a vector by constant indices: a launch only where something moves.
class Selection {
 public:
  Selection() = default;
  Selection(const std::vector<int64_t>& index, at::Device device) : count_(static_cast<int64_t>(index.size())) {
    first_ = index.empty() ? 0 : index.front();
    bool in_order = first_ == 0;
    for (size_t k = 0; k < index.size(); ++k) {
      in_order = in_order && index[k] == static_cast<int64_t>(k);
      same_ = same_ && index[k] == first_;
    }
    same_ = same_ && !in_order;
    if (!in_order && !same_) {
      index_ = at::tensor(index, at::TensorOptions(at::kLong)).to(device);
    }
  }

  at::Tensor of(const at::Tensor& t) const {
    return index_.defined() ? t.index_select(0, index_)
           : same_          ? span_of(t, first_, 1).expand({count_})
                            : span_of(t, 0, count_);
  }

  bool moves_nothing() const { return !index_.defined() && !same_; }

 private:
  at::Tensor index_;  ///< undefined for the first entries in order, and for one entry again and again
  int64_t count_ = 0, first_ = 0;
  bool same_ = true;
};

/// A number of each row: on the device, or on the host where all rows have the same.
struct Number {
  at::Tensor of_rows;
  int64_t of_all = 0;

  /// operation(the number).
  template <typename Operation>
  at::Tensor with(const Operation& operation) const {
    return of_rows.defined() ? operation(of_rows) : operation(of_all);
  }
};

/// Which row is which, as constants on the device. Vectors over the rows in the batches' order, but for `place`.
/// A plan of one matrix, which a functional form makes at each call, copies nothing
/// from the host, because that would wait.
struct RowNumbers {
  /// pairs::first_parting_axis of rows i < j is (lower_factor i + upper_factor j) % dimension.
  static constexpr int64_t lower_factor = 73856093, upper_factor = 19349663;

  Selection place;              ///< of each row of the plan, laid end to end: where it is in the batches' order
  Selection row;                ///< the plan's row; of padding the matrix's first
  Selection matrix;             ///< in the batches' order
  Selection layer;              ///< of the row
  Selection layer_of_matrix;    ///< [matrices in the batches' order]
  Selection matrices_of_layer;  ///< [layers * most matrices of one]; the count of matrices stands for none
  at::Tensor padding;           ///< bool; undefined where there is none
  at::Tensor own;               ///< index within the matrix
  at::Tensor own_axes;          ///< [rows, 2]: what it adds to a pair's two axes; undefined where none are asked for
  bool one_matrix_a_layer;      ///< else sums over matrices have a 0 at the end, for none
  Number size;                  ///< rows of the matrix
  Number dimension;             ///< of the matrix; [rows, 1]
  Number matrix_start;          ///< where the matrix's first row is
  Number start_in_batch;        ///< the same within the batch

  RowNumbers(const Plan& plan, const Batches& batches, bool with_axes) {
    Lists lists(plan);
    for (const Batch& batch : batches.all()) {
      for (int64_t k = 0; k < batch.size(); ++k) {
        lists.append(plan, batch, k);
      }
    }
    const at::Device device = plan.matrices.front().rows.device();
    const at::TensorOptions options = at::TensorOptions(at::kLong).device(device);
    const auto constant = [&](const std::vector<int64_t>& values) {
      return at::tensor(values, at::TensorOptions(at::kLong)).to(device);
    };
    const auto number = [&](const std::vector<int64_t>& values) {
      const bool same = std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == values.front(); });
      return same && !values.empty() ? Number{{}, values.front()} : Number{constant(values)};
    };
    place = Selection(lists.place, device);
    row = Selection(lists.row, device);
    matrix = Selection(lists.matrix, device);
    layer = Selection(lists.layer, device);
    layer_of_matrix = Selection(lists.layer_of_matrix, device);
    matrices_of_layer = Selection(table(lists.of_layer, batches.matrix_count()), device);
    if (batches.padded()) {
      padding = constant(lists.padding).to(at::kBool);
    }
    own = batches.matrix_count() == 1 ? at::arange(batches.row_count(), options) : constant(lists.own);
    if (with_axes) {
      own_axes = at::add(at::arange(2, options), own.unsqueeze(1), lower_factor);
    }
    one_matrix_a_layer = std::all_of(lists.of_layer.begin(), lists.of_layer.end(),
                                     [](const std::vector<int64_t>& matrices) { return matrices.size() == 1; });
    size = number(lists.size);
    dimension = number(lists.dimension);
    if (dimension.of_rows.defined()) {
      dimension.of_rows.unsqueeze_(1);
    }
    matrix_start = number(lists.matrix_start);
    start_in_batch = number(lists.start_in_batch);
  }

 private:
  /// The same, on the host.
  struct Lists {
    std::vector<int64_t> place, row, padding, own, size, dimension, matrix_start, start_in_batch, matrix, layer,
        layer_of_matrix;
    std::vector<std::vector<int64_t>> of_layer;
    std::vector<int64_t> offset{0};  ///< of each matrix of the plan

    explicit Lists(const Plan& plan) : of_layer(plan.layers()) {
      for (const Matrix& each : plan.matrices) {
        offset.push_back(offset.back() + each.rows.size(0));
      }
      place.resize(static_cast<size_t>(offset.back()));
    }

    /// The rows of a batch's k-th matrix.
    void append(const Plan& plan, const Batch& batch, int64_t k) {
      const size_t m = batch.matrices[static_cast<size_t>(k)];
      const int64_t n = plan.matrices[m].rows.size(0), d = plan.matrices[m].rows.size(1);
      const auto number = static_cast<int64_t>(layer_of_matrix.size());
      for (int64_t r = 0; r < batch.n; ++r) {
        if (r < n) {
          place[static_cast<size_t>(offset[m] + r)] = static_cast<int64_t>(row.size());
        }
        row.push_back(offset[m] + (r < n ? r : 0));
        padding.push_back(r < n ? 0 : 1);
        own.push_back(r);
        size.push_back(n);
        dimension.push_back(std::max<int64_t>(1, d));
        matrix_start.push_back(batch.first_row + k * batch.n);
        start_in_batch.push_back(k * batch.n);
        matrix.push_back(number);
        layer.push_back(static_cast<int64_t>(plan.matrices[m].layer));
      }
      of_layer[plan.matrices[m].layer].push_back(number);
      layer_of_matrix.push_back(static_cast<int64_t>(plan.matrices[m].layer));
    }
  };

  static std::vector<int64_t> table(const std::vector<std::vector<int64_t>>& of_layer, int64_t none) {
    size_t most = 1;
    for (const auto& matrices_of_one : of_layer) {
      most = std::max(most, matrices_of_one.size());
    }
    std::vector<int64_t> result;
    for (const auto& matrices_of_one : of_layer) {
      result.insert(result.end(), matrices_of_one.begin(), matrices_of_one.end());
      result.insert(result.end(), most - matrices_of_one.size(), none);
    }
    return result;
  }
};

}  // namespace mma::detail::nearest::portable
