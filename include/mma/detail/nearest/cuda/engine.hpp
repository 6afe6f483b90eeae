// The engine on a GPU: four launches find the neighbours, the values and the slopes, two more add the gradient (a
// further one for every 448 matrices beyond the first 448), whatever the number of layers. Nothing waits for the GPU
// and nothing is allocated but through LibTorch: after one pass outside a capture, all can be captured in a CUDA graph.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
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
#include "tables.hpp"

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
    found.norms = at::empty({tables_.rows}, options(at::kDouble));
    found.nearest = at::empty({tables_.rows}, options(at::kInt));
    found.angles = at::empty({tables_.rows}, options(at::kDouble));
    found.slopes = at::empty({tables_.rows}, options(at::kDouble));
    Pass pass = pass_of(found);
    pass.values = found.values.mutable_data_ptr<double>();
    at::Tensor given;
    if (nearest.defined()) {
      TORCH_CHECK(nearest.numel() == tables_.rows && nearest.scalar_type() == at::kInt && nearest.device() == device(),
                  "mma: neighbours of other rows; expected ", tables_.rows, " int32 on ", device(), ".");
      given = nearest.contiguous();
      pass.given = given.const_data_ptr<int32_t>();
    }
    void* arguments[] = {&pass};
    launch(Kernel::Norms, blocks_of_rows(tables_.rows), row_threads, arguments);
    if (!given.defined()) {
      launch(Kernel::Search, tables_.search_blocks, search_threads, arguments);
    }
    launch(Kernel::Decide, blocks_of_rows(tables_.rows), row_threads, arguments);
    launch(Kernel::Values, layers(), layer_threads, arguments);
    return found;
  }

  void add_gradient(const Found& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factors,
                    double scale) override {
    check(gradients, factors);
    Pass pass = pass_of(found);
    void* pass_argument[] = {&pass};
    launch(Kernel::Choosers, static_cast<int64_t>(gradients.size()), chooser_threads, pass_argument);
    GradientTargets targets{};
    targets.factors = factors.const_data_ptr<double>();
    targets.scale = scale;
    for (size_t first = 0; first < gradients.size(); first += gradient_targets) {
      const size_t count = std::min(gradients.size() - first, static_cast<size_t>(gradient_targets));
      targets.first_matrix = static_cast<int>(first);
      targets.matrix_count = static_cast<int>(count);
      int64_t chunks = 0;
      for (size_t m = 0; m < count; ++m) {
        targets.at[m] = gradients[first + m].mutable_data_ptr();
        chunks += chunks_of(gradients[first + m]);
      }
      void* arguments[] = {&pass, &targets};
      launch(Kernel::Gradient, chunks, row_threads, arguments);
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

  void make_tables() {
    size_t layers_before = 0;
    for (const Matrix& matrix : plan_.matrices) {
      check(matrix, layers_before);
      layers_before = matrix.layer + 1;
    }
    Tables tables = tables_of(plan_, type(), launcher_->multiprocessors());
    matrices_ = uploaded(tables.matrices);
    layer_begin_ = uploaded(tables.layer_begin);
    winners_ = at::empty({tables.rows}, options(at::kLong));
    terms_ = at::empty({tables.rows * static_cast<int64_t>(sizeof(RowTerms))}, options(at::kByte));
    choosers_ = at::empty({3, tables.rows}, options(at::kInt));
    const at::ScalarType sum = type() == at::kDouble ? at::kDouble : at::kFloat;
    pieces_ = at::empty({2 * tables.search_blocks, tile_rows, tile_rows}, options(sum));
    arrived_ = at::zeros({tables.search_blocks}, options(at::kInt));
    tables.matrices.clear();  // they are on the device
    tables_ = std::move(tables);
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
    pass.terms = static_cast<RowTerms*>(terms_.mutable_data_ptr());
    pass.choosers_begin = choosers_.mutable_data_ptr<int32_t>();
    pass.choosers_end = pass.choosers_begin + tables_.rows;
    pass.choosers = pass.choosers_end + tables_.rows;
    pass.pieces = pieces_.mutable_data_ptr();
    pass.arrived = arrived_.mutable_data_ptr<int32_t>();
    pass.rows = tables_.rows;
    pass.units = tables_.units;
    pass.objective = plan_.objective;
    pass.matrix_count = static_cast<int>(plan_.matrices.size());
    pass.search_blocks = static_cast<int>(tables_.search_blocks);
    pass.has_waves = tables_.has_waves;
    return pass;
  }

  Plan plan_;
  std::shared_ptr<KernelLauncher> launcher_;
  Tables tables_;
  at::Tensor matrices_, layer_begin_;      ///< tables
  at::Tensor winners_, terms_, choosers_;  ///< scratch of a row
  at::Tensor pieces_, arrived_;            ///< scratch of a block of the search
};

}  // namespace mma::detail::nearest::cuda
