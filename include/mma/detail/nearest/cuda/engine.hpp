// The engine on a GPU: four launches find the neighbours, the values and the slopes, one more adds the gradient (a
// further one for every 448 matrices beyond the first 448), whatever the number of layers. Nothing waits for the GPU
// and nothing is allocated but through LibTorch: after one pass outside a capture, all can be captured in a CUDA graph.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../engine.hpp"
#include "runtime.hpp"

namespace mma::detail::nearest::cuda {

class Engine final : public nearest::Engine {
 public:
  /// Whether the kernels can be had for rows of this type on this device. The first time compiles them (about a
  /// second); warns once in a process where it fails.
  static bool available(c10::Device device, at::ScalarType type) { return stream_launcher(device, type) != nullptr; }

  explicit Engine(Plan plan) : Engine(std::move(plan), nullptr) {}

  /// With a launcher of one's own.
  Engine(Plan plan, std::shared_ptr<KernelLauncher> launcher) : plan_(std::move(plan)), launcher_(std::move(launcher)) {
    TORCH_CHECK(!plan_.matrices.empty(), "mma: a search over no matrices; expected at least one.");
    if (!launcher_) {
      launcher_ = stream_launcher(device(), type());
      TORCH_CHECK(launcher_, "mma: no kernels for ", type(), " on ", device(), "; ask available() first.");
    }
    make_tables();
  }

  Found find(const at::Tensor& nearest) override {
    Found found;
    found.values = at::empty({layers()}, options(at::kDouble));
    found.norms = at::empty({rows_}, options(at::kDouble));
    found.nearest = at::empty({rows_}, options(at::kInt));
    found.angles = at::empty({rows_}, options(at::kDouble));
    found.slopes = at::empty({rows_}, options(at::kDouble));
    Pass pass = pass_of(found);
    pass.values = found.values.mutable_data_ptr<double>();
    at::Tensor given;
    if (nearest.defined()) {
      TORCH_CHECK(nearest.numel() == rows_ && nearest.scalar_type() == at::kInt && nearest.device() == device(),
                  "mma: neighbours of other rows; expected ", rows_, " int32 on ", device(), ".");
      given = nearest.contiguous();
      pass.given = given.const_data_ptr<int32_t>();
    }
    void* arguments[] = {&pass};
    launch(Kernel::Norms, blocks_of_rows(rows_), row_threads, arguments);
    if (!given.defined()) {
      launch(Kernel::Search, tiles_, search_threads, arguments);
    }
    launch(Kernel::Decide, blocks_of_rows(rows_), row_threads, arguments);
    launch(Kernel::Values, layers(), layer_threads, arguments);
    return found;
  }

  void add_gradient(const Found& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factors,
                    double scale) override {
    check(gradients, factors);
    Pass pass = pass_of(found);
    GradientTargets targets{};
    targets.factors = factors.const_data_ptr<double>();
    targets.scale = scale;
    for (size_t first = 0; first < gradients.size(); first += gradient_targets) {
      const size_t count = std::min(gradients.size() - first, static_cast<size_t>(gradient_targets));
      targets.first_matrix = static_cast<int>(first);
      targets.matrix_count = static_cast<int>(count);
      int64_t rows = 0;
      for (size_t m = 0; m < count; ++m) {
        targets.at[m] = gradients[first + m].mutable_data_ptr();
        rows += gradients[first + m].size(0);
      }
      void* arguments[] = {&pass, &targets};
      launch(Kernel::Gradient, blocks_of_rows(rows), row_threads, arguments);
    }
  }

 private:
  c10::Device device() const { return plan_.matrices.front().rows.device(); }
  at::ScalarType type() const { return plan_.matrices.front().rows.scalar_type(); }
  int64_t layers() const { return static_cast<int64_t>(plan_.layers()); }
  at::TensorOptions options(at::ScalarType type) const { return at::TensorOptions(type).device(device()); }

  static int64_t blocks_of_rows(int64_t rows) { return (rows + row_threads / 32 - 1) / (row_threads / 32); }

  void launch(Kernel kernel, int64_t blocks, int threads, void** arguments) {
    if (blocks > 0) {  // matrices may be empty
      launcher_->launch(kernel, blocks, threads, arguments);
    }
  }

  void check(const Matrix& matrix, size_t layers_before) const {
    const at::Tensor& rows = matrix.rows;
    constexpr int64_t most = std::numeric_limits<int32_t>::max() - row_threads;
    TORCH_CHECK(rows.dim() == 2 && rows.is_contiguous() && rows.scalar_type() == type() && rows.device() == device() &&
                    rows.size(0) <= most && rows.size(1) <= most,
                "mma: a matrix to search is ", rows.sizes(), ", ", rows.scalar_type(), " on ", rows.device(),
                "; expected a contiguous [rows, dimension] of ", type(), " on ", device(), ".");
    TORCH_CHECK(matrix.layer == layers_before || matrix.layer + 1 == layers_before, "mma: a matrix of layer ",
                matrix.layer, " after ", layers_before, " layers; expected layers in order, without a gap.");
  }

  void check(const std::vector<at::Tensor>& gradients, const at::Tensor& factors) const {
    TORCH_CHECK(gradients.size() == plan_.matrices.size(), "mma: ", gradients.size(), " gradients for ",
                plan_.matrices.size(), " matrices.");
    TORCH_CHECK(factors.defined() && factors.numel() == layers() && factors.is_contiguous() &&
                    factors.scalar_type() == at::kDouble && factors.device() == device(),
                "mma: a gradient's factors; expected ", layers(), " float64 on ", device(), ".");
    for (size_t m = 0; m < gradients.size(); ++m) {
      const at::Tensor &gradient = gradients[m], &rows = plan_.matrices[m].rows;
      TORCH_CHECK(gradient.sizes() == rows.sizes() && gradient.is_contiguous() && gradient.scalar_type() == type() &&
                      gradient.device() == device(),
                  "mma: the gradient of matrix ", m, " is not as its rows are: contiguous, ", rows.sizes(), ", ",
                  type(), " on ", device(), ".");
    }
  }

  /// Host memory to the device; waits, so only where the plan is new.
  template <typename T>
  at::Tensor uploaded(const std::vector<T>& values) const {
    at::Tensor bytes = at::empty({static_cast<int64_t>(values.size() * sizeof(T))}, at::TensorOptions(at::kByte));
    std::memcpy(bytes.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
    return bytes.to(device());
  }

  /// How many bits tell the rows of a matrix apart; all that a float32 cosine leaves.
  int index_bits(int64_t rows) const {
    int bits = type() == at::kDouble ? 0 : 32;
    while (bits < 32 && (int64_t{1} << bits) < rows) {
      ++bits;
    }
    return bits;
  }

  /// Bound on |computed - true| of the cosine that a warp computes. In units of half an epsilon of the type that rows
  /// are computed in: a lane's sum loses one a term, the lanes' sum five (Higham, Accuracy and Stability of Numerical
  /// Algorithms, section 3.1); eight more are the comparison's.
  double dot_error(int64_t dimension) const {
    const double epsilon = type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                 : static_cast<double>(std::numeric_limits<float>::epsilon());
    const int64_t terms_a_lane = dimension / 32 + 1;
    return 1.02 * static_cast<double>(terms_a_lane + 5 + 8) * epsilon / 2;
  }

  void make_tables() {
    std::vector<PassMatrix> matrices;
    std::vector<int> layer_begin;
    for (const Matrix& matrix : plan_.matrices) {
      check(matrix, layer_begin.size());
      if (matrix.layer == layer_begin.size()) {
        layer_begin.push_back(static_cast<int>(matrices.size()));
      }
      const int64_t count = matrix.rows.size(0), dimension = matrix.rows.size(1);
      matrices.push_back({matrix.rows.const_data_ptr(), rows_, tiles_, static_cast<int>(count),
                          static_cast<int>(dimension), index_bits(count), static_cast<int>(matrix.layer),
                          dot_error(dimension)});
      const int64_t blocks = (count + tile_rows - 1) / tile_rows;
      rows_ += count;
      tiles_ += blocks * (blocks + 1) / 2;
    }
    TORCH_CHECK(tiles_ <= std::numeric_limits<int32_t>::max(), "mma: too many rows for one search.");
    layer_begin.push_back(static_cast<int>(matrices.size()));
    matrices.push_back({nullptr, rows_, tiles_, 0, 0, 0, 0, 0});
    matrices_ = uploaded(matrices);
    layer_begin_ = uploaded(layer_begin);
    winners_ = at::empty({rows_}, options(at::kLong));
  }

  Pass pass_of(const Found& found) const {
    Pass pass{};
    pass.matrices = static_cast<const PassMatrix*>(matrices_.const_data_ptr());
    pass.layer_begin = static_cast<const int*>(layer_begin_.const_data_ptr());
    pass.norms = found.norms.mutable_data_ptr<double>();
    pass.angles = found.angles.mutable_data_ptr<double>();
    pass.slopes = found.slopes.mutable_data_ptr<double>();
    pass.nearest = found.nearest.mutable_data_ptr<int32_t>();
    pass.winners = static_cast<unsigned long long*>(winners_.mutable_data_ptr());
    pass.rows = rows_;
    pass.objective = plan_.objective;
    pass.matrix_count = static_cast<int>(plan_.matrices.size());
    return pass;
  }

  Plan plan_;
  std::shared_ptr<KernelLauncher> launcher_;
  int64_t rows_ = 0, tiles_ = 0;
  at::Tensor matrices_, layer_begin_;  ///< tables
  at::Tensor winners_;                 ///< scratch of a row
};

}  // namespace mma::detail::nearest::cuda
