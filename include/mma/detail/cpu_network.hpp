// One pass over all matrices of a network on a CPU, in plain loops and tile products, without temporaries: what it
// works in is made once. Large matrices go one after the other, so that each is still in cache for its angles and
// gradient; small ones go together, so that the threads wake once for all of them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <utility>
#include <vector>

#include "cpu_pairs.hpp"
#include "cpu_search.hpp"
#include "nearest_rows.hpp"
#include "network_pairs.hpp"

namespace mma::detail {

/// T: float or double, the type of all matrices.
template <typename T>
class CpuNetwork final : public PairNetwork {
 public:
  explicit CpuNetwork(PairPlan plan)
      : plan_(std::move(plan)),
        search_(matrices_of(plan_)),
        tasks_(search_.matrices()),
        gradient_(search_.matrices()),
        takes_part_(std::make_unique<bool[]>(static_cast<size_t>(row_count()))) {
    make_stages();
  }

  FoundPairs find(const at::Tensor& nearest) override {
    return find(nearest, [](const Stage&, const FoundPairs&) {});
  }

  void add_gradient(const FoundPairs& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factor,
                    double scale) override {
    const std::vector<T*> out = pointers(gradients);
    scale *= factor.defined() ? factor.item<double>() : 1;
    for (const Stage& stage : stages_) {
      add_gradient(stage, found, out, scale);
    }
  }

  /// While each matrix is in cache.
  FoundPairs find_and_add_gradient(const std::vector<at::Tensor>& gradients, double scale,
                                   const at::Tensor& nearest) override {
    const std::vector<T*> out = pointers(gradients);
    return find(nearest, [&](const Stage& stage, const FoundPairs& found) { add_gradient(stage, found, out, scale); });
  }

 private:
  static constexpr int64_t stage_bytes = int64_t{4} << 20;  ///< matrices that go together, about

  /// Some matrices, of whole layers.
  struct Stage {
    size_t begin, end;
  };

  static std::vector<at::Tensor> matrices_of(const PairPlan& plan) {
    std::vector<at::Tensor> result;
    for (const PairMatrix& matrix : plan.matrices) {
      result.push_back(matrix.rows);
    }
    return result;
  }

  static std::vector<T*> pointers(const std::vector<at::Tensor>& tensors) {
    std::vector<T*> result;
    for (const at::Tensor& tensor : tensors) {
      result.push_back(tensor.mutable_data_ptr<T>());
    }
    return result;
  }

  int64_t row_count() const {
    const auto& matrices = search_.matrices();
    return matrices.empty() ? 0 : matrices.back().offset + matrices.back().n;
  }

  void make_stages() {
    int64_t bytes = stage_bytes;
    for (size_t m = 0; m < plan_.matrices.size(); ++m) {
      const size_t layer = plan_.matrices[m].layer;
      const bool new_layer = m == 0 || layer != plan_.matrices[m - 1].layer;
      if (new_layer && bytes >= stage_bytes) {
        stages_.push_back({m, m});
        bytes = 0;
      }
      bytes += plan_.matrices[m].rows.numel() * static_cast<int64_t>(sizeof(T));
      stages_.back().end = m + 1;
    }
  }

  template <typename After>
  FoundPairs find(const at::Tensor& nearest, const After& after_stage) {
    const auto doubles = at::TensorOptions(at::kDouble);
    const FoundPairs found{{},
                           at::empty({row_count()}, doubles),
                           at::empty({row_count()}, at::TensorOptions(at::kInt)),
                           at::empty({row_count()}, doubles),
                           at::empty({row_count()}, doubles)};
    double value = 0;
    for (const Stage& stage : stages_) {
      take_norms(stage, found);
      nearest.defined() ? take_pairs(stage, nearest, found) : find_nearest(stage, found);
      for (size_t m = stage.begin; m < stage.end;) {
        value += weigh_layer(m, found);
      }
      after_stage(stage, found);
    }
    return {at::scalar_tensor(value, at::TensorOptions(c10::CppTypeToScalarType<T>::value)), found.norms, found.nearest,
            found.angles, found.slopes};
  }

  void take_norms(const Stage& stage, const FoundPairs& found) {
    auto* norms = found.norms.mutable_data_ptr<double>();
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const CpuMatrix<T>& matrix = search_.matrices()[m];
      const double norm = cpu_norm(matrix.rows + r * matrix.dimension, matrix.dimension);
      norms[matrix.offset + r] = norm;
      takes_part_[static_cast<size_t>(matrix.offset + r)] = norm >= zero_norm && std::isfinite(norm);
    });
  }

  /// The pairs given; a row that is zero now, or whose neighbour is, has none.
  void take_pairs(const Stage& stage, const at::Tensor& given, const FoundPairs& found) {
    const auto* norms = found.norms.const_data_ptr<double>();
    const auto* wanted = given.const_data_ptr<int32_t>();
    auto* nearest = found.nearest.mutable_data_ptr<int32_t>();
    auto* angles = found.angles.mutable_data_ptr<double>();
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const CpuMatrix<T>& matrix = search_.matrices()[m];
      const int64_t row = matrix.offset + r, other = wanted[row];
      const bool pair = other != r && takes_part_[static_cast<size_t>(row)] &&
                        takes_part_[static_cast<size_t>(matrix.offset + other)];
      nearest[row] = static_cast<int32_t>(pair ? other : r);
      angles[row] = pair ? cpu_angle(matrix, norms + matrix.offset, r, other) : 0;
    });
  }

  void find_nearest(const Stage& stage, const FoundPairs& found) {
    const auto* norms = found.norms.const_data_ptr<double>();
    auto* nearest = found.nearest.mutable_data_ptr<int32_t>();
    auto* angles = found.angles.mutable_data_ptr<double>();
    for (size_t m = stage.begin; m < stage.end; ++m) {
      const int64_t offset = search_.matrices()[m].offset;
      search_.set_norms(m, norms + offset, takes_part_.get() + offset);
    }
    const bool exact = std::is_same_v<T, double> || float32_products_are_exact(at::kCPU);
    if (exact) {
      search_.search(stage.begin, stage.end, plan_.objective.choice.half_space);
    }
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const CpuMatrix<T>& matrix = search_.matrices()[m];
      const int64_t row = matrix.offset + r;
      const CpuNeighbour neighbour =
          exact ? search_.nearest(m, r, norms + matrix.offset) : CpuNeighbour{.index = r, .settled = false};
      nearest[row] = neighbour.settled ? static_cast<int32_t>(neighbour.index) : -1;
      angles[row] = neighbour.angle;
    });
    for (size_t m = stage.begin; m < stage.end; ++m) {
      settle_in_double(m, found);
    }
  }

  /// The rows of a matrix that the search left open, by cosines in float64.
  void settle_in_double(size_t m, const FoundPairs& found) {
    const CpuMatrix<T>& matrix = search_.matrices()[m];
    auto* nearest = found.nearest.mutable_data_ptr<int32_t>() + matrix.offset;
    const bool* takes_part = takes_part_.get() + matrix.offset;
    std::vector<int64_t> open, all(static_cast<size_t>(matrix.n));
    for (int64_t r = 0; r < matrix.n; ++r) {
      all[static_cast<size_t>(r)] = r;
      if (nearest[r] < 0) {
        nearest[r] = static_cast<int32_t>(r);
        if (takes_part[r]) {
          open.push_back(r);
        }
      }
    }
    if (open.empty()) {
      return;
    }
    const at::Tensor norms = found.norms.narrow(0, matrix.offset, matrix.n);
    const at::Tensor left_out =
        at::from_blob(const_cast<bool*>(takes_part), {matrix.n}, at::TensorOptions(at::kBool)).logical_not();
    search_in_double(
        {plan_.matrices[m].rows, norms.masked_fill(left_out, 1.0), left_out, plan_.objective.choice.half_space}, open,
        all.data());
    auto* angles = found.angles.mutable_data_ptr<double>() + matrix.offset;
    for (const int64_t r : open) {
      const int64_t other = all[static_cast<size_t>(r)];
      nearest[r] = static_cast<int32_t>(other);
      angles[r] = other == r ? 0 : cpu_angle(matrix, norms.const_data_ptr<double>(), r, other);
    }
  }

  /// coefficient * value of the layer whose first matrix is m, which moves on to the next layer's; fills its slopes.
  double weigh_layer(size_t& m, const FoundPairs& found) {
    const size_t first = m, layer = plan_.matrices[m].layer;
    double counted = 0;
    for (; m < plan_.matrices.size() && plan_.matrices[m].layer == layer; ++m) {
      counted += counted_rows(m, found);
    }
    double value = 0;
    for (size_t k = first; k < m; ++k) {
      const double share = counted > 0 ? counted_rows(k, found) / counted : 0;
      value += weigh_matrix(k, plan_.coefficients[layer] * share, found);
    }
    return value;
  }

  /// Rows that are not zero; 0 when fewer than two are not.
  double counted_rows(size_t m, const FoundPairs& found) const {
    const CpuMatrix<T>& matrix = search_.matrices()[m];
    const auto* norms = found.norms.const_data_ptr<double>() + matrix.offset;
    int64_t count = 0;
    for (int64_t r = 0; r < matrix.n; ++r) {
      count += norms[r] < zero_norm ? 0 : 1;
    }
    return count < 2 ? 0 : static_cast<double>(count);
  }

  double folded(double theta) const {
    return plan_.objective.choice.half_space ? std::min(theta, std::numbers::pi - theta) : theta;
  }

  /// factor * value of a matrix; slopes of its rows.
  double weigh_matrix(size_t m, double factor, const FoundPairs& found) {
    const CpuMatrix<T>& matrix = search_.matrices()[m];
    const auto* norms = found.norms.const_data_ptr<double>() + matrix.offset;
    const auto* angles = found.angles.const_data_ptr<double>() + matrix.offset;
    auto* slopes = found.slopes.mutable_data_ptr<double>() + matrix.offset;
    const double rows = counted_rows(m, found);
    double not_finite = 0, smallest = std::numeric_limits<double>::infinity();
    int64_t closest = -1;
    for (int64_t r = 0; r < matrix.n; ++r) {
      not_finite += norms[r] * 0;
      if (!(norms[r] < zero_norm) && folded(angles[r]) < smallest) {
        smallest = folded(angles[r]);
        closest = r;
      }
    }
    double value = 0;
    for (int64_t r = 0; r < matrix.n; ++r) {
      slopes[r] = 0;
      if (rows == 0 || norms[r] < zero_norm || (plan_.objective.choice.closest_only && r != closest)) {
        continue;
      }
      const double weight = factor * (plan_.objective.choice.closest_only ? 1 : 1 / rows);
      const double theta = folded(angles[r]), sign = theta < angles[r] ? -1 : 1;
      const bool angle = plan_.objective.function == PairFunction::MinusAngle;
      value += weight * (angle ? -theta : std::cos(theta));
      slopes[r] = weight * sign * (angle ? -1 : -std::sin(theta)) + not_finite;
    }
    return rows == 0 || factor == 0 ? 0 : value + not_finite;
  }

  void add_gradient(const Stage& stage, const FoundPairs& found, const std::vector<T*>& out, double scale) {
    weights_.resize(static_cast<size_t>(row_count()));
    const auto& matrices = search_.matrices();
    const auto* slopes = found.slopes.const_data_ptr<double>();
    for (int64_t r = matrices[stage.begin].offset; r < matrices[stage.end - 1].offset + matrices[stage.end - 1].n;
         ++r) {
      weights_[static_cast<size_t>(r)] = -scale * slopes[r];
    }
    gradient_.compute(stage.begin, stage.end,
                      {found.norms.const_data_ptr<double>(), found.nearest.const_data_ptr<int32_t>(),
                       found.angles.const_data_ptr<double>(), weights_.data()},
                      true, out);
  }

  PairPlan plan_;
  CpuSearch<T> search_;
  RowTasks tasks_;
  CpuGradient<T, int32_t> gradient_;
  std::unique_ptr<bool[]> takes_part_;  ///< of each row: neither zero nor with NaN or Inf
  std::vector<double> weights_;
  std::vector<Stage> stages_;
};

}  // namespace mma::detail
