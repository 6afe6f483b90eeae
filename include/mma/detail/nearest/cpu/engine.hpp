// The engine on a CPU: plain loops and tile products without temporaries; what it works in is made once. Large layers
// go one after the other, so that each is still in cache for its angles and gradient; small ones go together, so that
// the threads wake once for all of them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../pairs/math.hpp"
#include "../../rows/norms.hpp"
#include "../../rows/precision.hpp"
#include "../engine.hpp"
#include "gradient.hpp"
#include "near_look.hpp"
#include "search.hpp"
#include "tasks.hpp"

namespace mma::detail::nearest::cpu {

/// T: float or double, the type of all matrices.
template <typename T>
class Engine final : public nearest::Engine {
 public:
  explicit Engine(Plan plan)
      : plan_(std::move(plan)),
        search_(rows_of(plan_)),
        tasks_(search_.matrices()),
        gradient_(search_.matrices()),
        weights_(static_cast<size_t>(row_count())) {
    make_stages();
  }

  Found find(const at::Tensor& nearest) override {
    return find(nearest, [](const Stage&, const Vectors&) {});
  }

  void add_gradient(const Found& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factors,
                    double scale) override {
    const std::vector<T*> out = pointers(gradients);
    const Vectors vectors(found);
    for (const Stage& stage : stages_) {
      add_gradient(stage, vectors, out, factors, scale);
    }
  }

  /// While each layer is in cache.
  Found find_and_add_gradient(const std::vector<at::Tensor>& gradients, const at::Tensor& factors, double scale,
                              const at::Tensor& nearest) override {
    const std::vector<T*> out = pointers(gradients);
    return find(nearest,
                [&](const Stage& stage, const Vectors& found) { add_gradient(stage, found, out, factors, scale); });
  }

 private:
  static constexpr int64_t stage_bytes = int64_t{4} << 20;  ///< of matrices that go together, about

  /// Some matrices, of whole layers.
  struct Stage {
    size_t begin, end;
  };

  /// The vectors of a Found.
  struct Vectors {
    explicit Vectors(const Found& found)
        : norms(found.norms.mutable_data_ptr<double>()),
          nearest(found.nearest.mutable_data_ptr<int32_t>()),
          angles(found.angles.mutable_data_ptr<double>()),
          slopes(found.slopes.mutable_data_ptr<double>()) {}

    double* norms;
    int32_t* nearest;
    double *angles, *slopes;
  };

  static std::vector<at::Tensor> rows_of(const Plan& plan) {
    std::vector<at::Tensor> result;
    for (const Matrix& matrix : plan.matrices) {
      result.push_back(matrix.rows);
    }
    return result;
  }

  static std::vector<T*> pointers(const std::vector<at::Tensor>& tensors) {
    std::vector<T*> result;
    result.reserve(tensors.size());
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
      const bool new_layer = m == 0 || plan_.matrices[m].layer != plan_.matrices[m - 1].layer;
      if (new_layer && bytes >= stage_bytes) {
        stages_.push_back({m, m});
        bytes = 0;
      }
      bytes += plan_.matrices[m].rows.numel() * static_cast<int64_t>(sizeof(T));
      stages_.back().end = m + 1;
    }
  }

  template <typename After>
  Found find(const at::Tensor& nearest, const After& after_stage) {
    const auto doubles = at::TensorOptions(at::kDouble);
    Found found{at::empty({static_cast<int64_t>(plan_.layers())}, doubles), at::empty({row_count()}, doubles),
                at::empty({row_count()}, at::TensorOptions(at::kInt)), at::empty({row_count()}, doubles),
                at::empty({row_count()}, doubles)};
    auto* values = found.values.mutable_data_ptr<double>();
    const Vectors vectors(found);
    for (const Stage& stage : stages_) {
      take_norms(stage, vectors);
      nearest.defined() ? take_pairs(stage, nearest.const_data_ptr<int32_t>(), vectors) : find_nearest(stage, vectors);
      for (size_t m = stage.begin; m < stage.end;) {
        const size_t layer = plan_.matrices[m].layer;
        values[layer] = weigh_layer(m, vectors);
      }
      after_stage(stage, vectors);
    }
    return found;
  }

  void take_norms(const Stage& stage, const Vectors& found) {
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const RowMatrix<T>& matrix = search_.matrices()[m];
      found.norms[matrix.offset + r] = rows::norm_of(matrix.row(r), matrix.dimension);
    });
  }

  /// The pairs given.
  void take_pairs(const Stage& stage, const int32_t* given, const Vectors& found) {
    const double* norms = found.norms;
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const RowMatrix<T>& matrix = search_.matrices()[m];
      const int64_t other = given[matrix.offset + r];
      const bool is_row = other >= 0 && other < matrix.n && other != r;
      const bool pair =
          is_row && pairs::takes_part(norms[matrix.offset + r]) && pairs::takes_part(norms[matrix.offset + other]);
      set_nearest(m, r, pair ? other : r, found);
    });
  }

  void find_nearest(const Stage& stage, const Vectors& found) {
    const bool searched = std::is_same_v<T, double> || rows::float32_products_are_exact(at::kCPU);
    if (searched) {
      search_.search(stage.begin, stage.end, found.norms, plan_.objective.half_space);
    }
    tasks_.for_each(stage.begin, stage.end, [&](size_t m, int64_t r, size_t) {
      const Winner<T>& winner = search_.winner(m, r);
      set_nearest(m, r, winner.index < 0 || !searched ? r : winner.index, found, winner.cosine < 0);
      // Elsewhere the winner stays whatever else was seen.
      if (searched && winner.near.index >= 0 && angle_to_nearest(m, r, found) < pairs::near_angle) {
        set_nearest(m, r, winner.near.index, found);
      }
    });
    for (size_t m = stage.begin; m < stage.end; ++m) {
      look_at_open(m, searched, found);
    }
  }

  /// The nearest of row r and the angle to it; obtuse: a guess that saves work.
  void set_nearest(size_t m, int64_t r, int64_t nearest, const Vectors& found, bool obtuse = false) const {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    found.nearest[matrix.offset + r] = static_cast<int32_t>(nearest);
    double angle = 0;
    if (nearest != r) {
      const NormedRows<T> rows{matrix, found.norms + matrix.offset};
      const pairs::Lengths between = lengths(rows, r, rows, nearest, obtuse);
      angle = pairs::angle_of(between.difference, between.sum, duplicate_distance<T>);
    }
    found.angles[matrix.offset + r] = angle;
  }

  double angle_to_nearest(size_t m, int64_t r, const Vectors& found) const {
    return pairs::folded(found.angles[search_.matrices()[m].offset + r], plan_.objective.half_space);
  }

  /// Whether a row has to be looked at in float64 among all: it is near too many others for the search, or all others
  /// are at its antipode, or products are not what they should be.
  bool is_open(size_t m, int64_t r, bool searched, const Vectors& found) const {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    if (!searched) {
      return pairs::takes_part(found.norms[matrix.offset + r]);
    }
    const bool known = found.nearest[matrix.offset + r] == r || matrix.n == 2;
    const double angle = angle_to_nearest(m, r, found);
    return !known && pairs::needs_look(angle) && (angle > pairs::near_angle || search_.winner(m, r).crowded);
  }

  /// The rows of a matrix that the search leaves open.
  void look_at_open(size_t m, bool searched, const Vectors& found) {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    std::vector<int64_t> open;
    for (int64_t r = 0; r < matrix.n; ++r) {
      if (is_open(m, r, searched, found)) {
        open.push_back(r);
      }
    }
    const auto size = static_cast<int64_t>(open.size());
    for_each_range(size, NearLook<T>::rows_at_a_time, [&](int64_t begin, int64_t end) {
      std::vector<Nearest> nearest(static_cast<size_t>(end - begin));
      const std::span rows(open.data() + begin, nearest.size());
      const NormedRows<T> all{matrix, found.norms + matrix.offset};
      NearLook<T>(all, all, plan_.objective.half_space).look(rows, nearest);
      for (size_t k = 0; k < rows.size(); ++k) {
        set_nearest(m, rows[k], nearest[k].index < 0 ? rows[k] : nearest[k].index, found);
      }
    });
  }

  /// Of a matrix: its usable rows, 0 when there are fewer than two, and whether all of them are finite.
  struct Count {
    double usable = 0;
    bool finite = true;
  };

  Count count_rows(size_t m, const Vectors& found) const {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    const std::span norms(found.norms + matrix.offset, static_cast<size_t>(matrix.n));
    const auto usable = std::count_if(norms.begin(), norms.end(), pairs::counts_as_row);
    return {usable < 2 ? 0 : static_cast<double>(usable), std::all_of(norms.begin(), norms.end(), pairs::is_finite)};
  }

  /// The value of the layer whose first matrix is m, which moves on to the next layer's; fills its slopes.
  double weigh_layer(size_t& m, const Vectors& found) {
    const size_t first = m, layer = plan_.matrices[m].layer;
    Count all;
    counts_.clear();
    for (; m < plan_.matrices.size() && plan_.matrices[m].layer == layer; ++m) {
      counts_.push_back(count_rows(m, found));
      all = {all.usable + counts_.back().usable, all.finite && counts_.back().finite};
    }
    double value = 0;
    for (size_t k = first; k < m; ++k) {
      const double rows = counts_[k - first].usable;
      value += rows > 0 ? weigh_matrix(k, rows, rows / all.usable, all.finite, found) : weigh_nothing(k, found);
    }
    return all.finite ? value : pairs::not_a_number();
  }

  double weigh_nothing(size_t m, const Vectors& found) const {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    auto* slopes = found.slopes + matrix.offset;
    std::fill(slopes, slopes + matrix.n, 0.0);
    return 0;
  }

  /// share * value of a matrix of so many usable rows; slopes of its rows.
  double weigh_matrix(size_t m, double rows, double share, bool finite, const Vectors& found) const {
    const RowMatrix<T>& matrix = search_.matrices()[m];
    const Objective& f = plan_.objective;
    const auto* norms = found.norms + matrix.offset;
    const auto* angles = found.angles + matrix.offset;
    auto* slopes = found.slopes + matrix.offset;
    const int64_t closest = f.closest_only ? closest_row(matrix.n, norms, angles) : -1;
    const double weight = f.closest_only ? share : share / rows;
    double value = 0;
    for (int64_t r = 0; r < matrix.n; ++r) {
      const bool counts = f.closest_only ? r == closest : pairs::counts_as_row(norms[r]);
      value += counts ? weight * pairs::value_at(f, angles[r]) : 0;
      slopes[r] = !counts ? 0 : finite ? weight * pairs::slope_at(f, angles[r]) : pairs::not_a_number();
    }
    return value;
  }

  /// The first row with the smallest folded angle.
  int64_t closest_row(int64_t n, const double* norms, const double* angles) const {
    double smallest = no_angle;
    int64_t closest = 0;
    for (int64_t r = 0; r < n; ++r) {
      const double angle = pairs::folded(angles[r], plan_.objective.half_space);
      if (pairs::takes_part(norms[r]) && angle < smallest) {
        smallest = angle;
        closest = r;
      }
    }
    return closest;
  }

  void add_gradient(const Stage& stage, const Vectors& found, const std::vector<T*>& out, const at::Tensor& factors,
                    double scale) {
    const auto* factor = factors.const_data_ptr<double>();
    for (size_t m = stage.begin; m < stage.end; ++m) {
      const RowMatrix<T>& matrix = search_.matrices()[m];
      const double minus = -scale * factor[plan_.matrices[m].layer];
      for (int64_t r = matrix.offset; r < matrix.offset + matrix.n; ++r) {
        weights_[static_cast<size_t>(r)] = minus * found.slopes[r];
      }
    }
    gradient_.add(stage.begin, stage.end, {found.norms, found.nearest, found.angles, weights_.data()}, out);
  }

  Plan plan_;
  Search<T> search_;
  RowTasks tasks_;
  Gradient<T> gradient_;
  std::vector<double> weights_;  ///< of each row's -theta
  std::vector<Count> counts_;    ///< of the matrices of the layer at hand
  std::vector<Stage> stages_;
};

}  // namespace mma::detail::nearest::cpu
