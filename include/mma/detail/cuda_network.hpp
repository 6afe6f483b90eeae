// All matrices of a network in one pass on a GPU: five launches find the neighbours, the value and the slopes, one more
// adds the gradient (a further one for every 448 matrices beyond the first 448), whatever the number of layers.
// Nothing waits for the GPU, and nothing is allocated but through LibTorch: after one pass outside a capture, find()
// and add_gradient() can be captured in a CUDA graph. What they need of the host goes by value with each launch.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_runtime.hpp"
#include "network_pairs.hpp"

namespace mma::detail {

/// Twice the bound on |computed - true| of a cosine that all columns of a row share. In units of 2^-24: float32 sums of
/// up to 512 terms, then of those sums, lose one a term (Higham, Accuracy and Stability of Numerical Algorithms,
/// section 3.1); a tensor core, which aligns the terms of a sum and cuts them off, four at most. Six more are the
/// normalisation, six the comparisons. What rounding the rows to TF32 or bfloat16 does is measured row by row
/// (row_rounding).
inline float cosine_window(int64_t dimension, SearchPrecision precision) {
  constexpr int64_t block = 512;
  constexpr double unit = std::numeric_limits<float>::epsilon() / 2;
  const int64_t a_term = precision == SearchPrecision::Float32 ? 1 : 4;
  const int64_t units = a_term * std::min(dimension, block) + dimension / block + 1 + 12;
  return static_cast<float>(2 * 1.02 * static_cast<double>(units) * unit);
}

class CudaNetwork final : public PairNetwork {
 public:
  /// Whether the kernels can be had for rows of this type on this device. The first time compiles them (about a
  /// second); warns once in a process where it fails.
  static bool available(c10::Device device, at::ScalarType type, SearchPrecision precision = SearchPrecision::Float32) {
    return cuda_launcher(device, type, precision) != nullptr;
  }

  explicit CudaNetwork(PairPlan plan, SearchPrecision precision = SearchPrecision::Float32)
      : CudaNetwork(std::move(plan), precision, nullptr) {}

  /// With a launcher of one's own.
  CudaNetwork(PairPlan plan, SearchPrecision precision, std::shared_ptr<KernelLauncher> launcher)
      : plan_(std::move(plan)), launcher_(std::move(launcher)) {
    TORCH_CHECK(!plan_.matrices.empty(), "mma: a pass over no matrices; expected at least one.");
    if (!launcher_) {
      launcher_ = cuda_launcher(device(), type(), precision);
      TORCH_CHECK(launcher_, "mma: no kernels for ", type(), " on ", device(), "; ask available() first.");
    }
    make_tables(precision);
  }

  /// The neighbours, or those of `nearest` (int32, as in FoundPairs) as they are, and all that depends on them.
  FoundPairs find(const at::Tensor& nearest) override {
    FoundPairs found;
    found.value = at::empty({}, options(type() == at::kDouble ? at::kDouble : at::kFloat));
    found.norms = at::empty({rows_}, options(at::kDouble));
    found.nearest = at::empty({rows_}, options(at::kInt));
    found.angles = at::empty({rows_}, options(at::kDouble));
    found.slopes = at::empty({rows_}, options(at::kDouble));
    cuda::Pass pass = pass_of(found);
    at::Tensor given;
    if (nearest.defined()) {
      TORCH_CHECK(nearest.numel() == rows_ && nearest.scalar_type() == at::kInt && nearest.device() == device(),
                  "mma: neighbours of other rows; expected ", rows_, " int32 on ", device(), ".");
      given = nearest.contiguous();
      pass.given = given.const_data_ptr<int32_t>();
    }
    void* arguments[] = {&pass};
    launcher_->launch(CudaKernel::Norms, blocks_of_rows(rows_), cuda::row_threads, arguments);
    if (!given.defined() && tiles_ > 0) {
      launcher_->launch(CudaKernel::Search, tiles_, cuda::search_threads, arguments);
    }
    launcher_->launch(CudaKernel::Decide, blocks_of_rows(rows_), cuda::row_threads, arguments);
    launcher_->launch(CudaKernel::Layers, pass.layer_count, cuda::layer_threads, arguments);
    launcher_->launch(CudaKernel::Total, 1, 32, arguments);
    return found;
  }

  /// gradients[m] += scale * factor * d value/d rows of matrix m, in the rows' type, [n, d] contiguous. `factor`: a
  /// scalar of any floating-point type, on the device or the CPU; 1 where undefined.
  void add_gradient(const FoundPairs& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factor,
                    double scale) override {
    TORCH_CHECK(gradients.size() == plan_.matrices.size(), "mma: ", gradients.size(), " gradients for ",
                plan_.matrices.size(), " matrices.");
    cuda::Pass pass = pass_of(found);
    cuda::GradientTargets targets{};
    set_factor(targets, factor, scale);
    for (size_t first = 0; first < gradients.size(); first += cuda::gradient_targets) {
      const size_t count = std::min(gradients.size() - first, static_cast<size_t>(cuda::gradient_targets));
      targets.first_matrix = static_cast<int>(first);
      targets.matrix_count = static_cast<int>(count);
      int64_t rows = 0;
      for (size_t m = first; m < first + count; ++m) {
        const at::Tensor& gradient = gradients[m];
        const at::Tensor& matrix = plan_.matrices[m].rows;
        TORCH_CHECK(gradient.sizes() == matrix.sizes() && gradient.is_contiguous() &&
                        gradient.scalar_type() == type() && gradient.device() == device(),
                    "mma: the gradient of matrix ", m, " is not as its rows are: contiguous, ", matrix.sizes(), ", ",
                    type(), " on ", device(), ".");
        targets.at[m - first] = gradient.mutable_data_ptr();
        rows += matrix.size(0);
      }
      void* arguments[] = {&pass, &targets};
      launcher_->launch(CudaKernel::Gradient, blocks_of_rows(rows), cuda::row_threads, arguments);
    }
  }

 private:
  c10::Device device() const { return plan_.matrices.front().rows.device(); }
  at::ScalarType type() const { return plan_.matrices.front().rows.scalar_type(); }
  at::TensorOptions options(at::ScalarType type) const { return at::TensorOptions(type).device(device()); }

  static int64_t blocks_of_rows(int64_t rows) { return (rows + cuda::row_threads / 32 - 1) / (cuda::row_threads / 32); }

  /// Host memory to the device; waits, so only where the plan is new.
  template <typename T>
  at::Tensor uploaded(const std::vector<T>& values) const {
    at::Tensor bytes = at::empty({static_cast<int64_t>(values.size() * sizeof(T))}, at::TensorOptions(at::kByte));
    std::memcpy(bytes.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
    return bytes.to(device());
  }

  void check(const PairMatrix& matrix) const {
    const at::Tensor& rows = matrix.rows;
    TORCH_CHECK(rows.dim() == 2 && rows.is_contiguous() && rows.scalar_type() == type() && rows.device() == device() &&
                    rows.numel() > 0 && rows.size(0) <= std::numeric_limits<int32_t>::max() - cuda::row_threads &&
                    rows.size(1) <= std::numeric_limits<int32_t>::max() - cuda::row_threads,
                "mma: a matrix of a pass is ", rows.sizes(), ", ", rows.scalar_type(), " on ", rows.device(),
                "; expected a contiguous [rows, dimension] of ", type(), " on ", device(), ".");
  }

  void make_tables(SearchPrecision precision) {
    std::vector<cuda::PassMatrix> matrices;
    std::vector<int> layer_begin{0};
    for (const PairMatrix& matrix : plan_.matrices) {
      check(matrix);
      const int64_t count = matrix.rows.size(0), dimension = matrix.rows.size(1);
      while (layer_begin.size() <= matrix.layer) {
        layer_begin.push_back(static_cast<int>(matrices.size()));
      }
      matrices.push_back({matrix.rows.const_data_ptr(), rows_, tiles_, static_cast<int>(count),
                          static_cast<int>(dimension), cosine_window(dimension, precision),
                          static_cast<int>(matrix.layer)});
      const int64_t blocks = (count + cuda::tile_rows - 1) / cuda::tile_rows;
      rows_ += count;
      tiles_ += blocks * (blocks + 1) / 2;
    }
    while (layer_begin.size() <= plan_.coefficients.size()) {
      layer_begin.push_back(static_cast<int>(matrices.size()));
    }
    TORCH_CHECK(layer_begin.size() == plan_.coefficients.size() + 1, "mma: matrices of more layers than ",
                plan_.coefficients.size(), " coefficients.");
    TORCH_CHECK(tiles_ <= std::numeric_limits<int32_t>::max(), "mma: too many rows for one pass.");
    matrices.push_back({nullptr, rows_, tiles_, 0, 0, 0, 0});
    matrices_ = uploaded(matrices);
    layer_begin_ = uploaded(layer_begin);
    coefficients_ = uploaded(plan_.coefficients);
    layer_values_ = at::empty({static_cast<int64_t>(plan_.coefficients.size())}, options(at::kDouble));
    rounding_ = at::empty({rows_}, options(at::kFloat));
    best_ = at::empty({rows_}, options(at::kInt));
    counts_ = at::empty({rows_}, options(at::kInt));
    candidates_ = at::empty({rows_ * cuda::candidate_capacity * static_cast<int64_t>(sizeof(cuda::Candidate))},
                            options(at::kByte));
  }

  cuda::Pass pass_of(const FoundPairs& found) const {
    cuda::Pass pass{};
    pass.matrices = static_cast<const cuda::PassMatrix*>(matrices_.const_data_ptr());
    pass.layer_begin = static_cast<const int*>(layer_begin_.const_data_ptr());
    pass.coefficients = static_cast<const double*>(coefficients_.const_data_ptr());
    pass.norms = found.norms.mutable_data_ptr<double>();
    pass.angles = found.angles.mutable_data_ptr<double>();
    pass.slopes = found.slopes.mutable_data_ptr<double>();
    pass.nearest = found.nearest.mutable_data_ptr<int32_t>();
    pass.rounding = rounding_.mutable_data_ptr<float>();
    pass.best = best_.mutable_data_ptr<int32_t>();
    pass.counts = counts_.mutable_data_ptr<int32_t>();
    pass.candidates = static_cast<cuda::Candidate*>(candidates_.mutable_data_ptr());
    pass.layer_values = layer_values_.mutable_data_ptr<double>();
    pass.value = found.value.mutable_data_ptr();
    pass.rows = rows_;
    pass.matrix_count = static_cast<int>(plan_.matrices.size());
    pass.layer_count = static_cast<int>(plan_.coefficients.size());
    pass.half_space = plan_.objective.choice.half_space;
    pass.closest_only = plan_.objective.choice.closest_only;
    pass.cosine = plan_.objective.function == PairFunction::Cosine;
    return pass;
  }

  void set_factor(cuda::GradientTargets& targets, const at::Tensor& factor, double scale) const {
    targets.scale = scale;
    targets.factor_type = -1;
    if (!factor.defined()) {
      return;
    }
    TORCH_CHECK(factor.numel() == 1 && cuda_row_type(factor.scalar_type()) >= 0, "mma: a gradient's factor is ",
                factor.sizes(), ", ", factor.scalar_type(), "; expected one floating-point number.");
    if (factor.device() == device()) {
      targets.factor = factor.const_data_ptr();
      targets.factor_type = cuda_row_type(factor.scalar_type());
    } else {
      targets.scale *= factor.item<double>();
    }
  }

  PairPlan plan_;
  std::shared_ptr<KernelLauncher> launcher_;
  int64_t rows_ = 0, tiles_ = 0;
  at::Tensor matrices_, layer_begin_, coefficients_, layer_values_;  ///< tables
  at::Tensor rounding_, best_, counts_, candidates_;                 ///< scratch of a row
};

static_assert(sizeof(cuda::Pass) + sizeof(cuda::GradientTargets) <= 4096, "a kernel takes 4 KiB of arguments");

}  // namespace mma::detail
