// Shapes of the operations that LibTorch's C++ has no kernel for on the meta device, where a tensor has a shape but no
// numbers: what asks for a number there throws, as it would wait for a GPU.
#pragma once

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

#include <optional>
#include <vector>

namespace meta_kernels {

inline at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> sizes = self.sizes().vec();
  sizes[static_cast<size_t>(dim)] = index.numel();
  return at::empty(sizes, self.options());
}

/// A number that lies on the host is copied to the device first, which waits for it.
inline at::Tensor where(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other) {
  TORCH_CHECK(self.is_meta() && other.is_meta(), "a copy to the device");
  const std::vector<int64_t> sizes = at::infer_size(at::infer_size(condition.sizes(), self.sizes()), other.sizes());
  return at::empty(sizes, condition.options().dtype(at::result_type(self, other)));
}

inline at::Tensor cdist(const at::Tensor& first, const at::Tensor& second, double, std::optional<int64_t>) {
  return at::empty({first.size(0), first.size(1), second.size(1)}, first.options());
}

inline at::Tensor& abs_out(const at::Tensor& self, at::Tensor& out) {
  out.resize_(self.sizes());
  return out;
}

inline at::Tensor& nan_to_num_out(const at::Tensor& self, std::optional<double>, std::optional<double>,
                                  std::optional<double>, at::Tensor& out) {
  out.resize_(self.sizes());
  return out;
}

inline at::Tensor& logical_and_out(const at::Tensor& self, const at::Tensor& other, at::Tensor& out) {
  out.resize_(at::infer_size(self.sizes(), other.sizes()));
  return out;
}

}  // namespace meta_kernels

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("index_select", &meta_kernels::index_select);
  library.impl("_cdist_forward", &meta_kernels::cdist);
  library.impl("abs.out", &meta_kernels::abs_out);
  library.impl("nan_to_num.out", &meta_kernels::nan_to_num_out);
  library.impl("logical_and.out", &meta_kernels::logical_and_out);
  library.impl("where.self", &meta_kernels::where);
}
