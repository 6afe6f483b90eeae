// The operations that a piece of code runs: what would be launched on a GPU. Views and allocations are none; of an
// operation made of others the others count.
#pragma once

#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace operations {

namespace recording {

struct Open {
  std::string name;
  bool has_parts = false;
};

inline thread_local std::vector<Open> open;
inline thread_local std::vector<std::string> done;

/// Names without their overload; `to`, `reshape` and the like launch nothing of their own.
inline bool launches_nothing(std::string_view name) {
  static constexpr std::array names{"view",
                                    "_unsafe_view",
                                    "_reshape_alias",
                                    "reshape",
                                    "flatten",
                                    "expand",
                                    "expand_as",
                                    "as_strided",
                                    "as_strided_",
                                    "narrow",
                                    "slice",
                                    "select",
                                    "t",
                                    "transpose",
                                    "permute",
                                    "unsqueeze",
                                    "squeeze",
                                    "detach",
                                    "detach_",
                                    "alias",
                                    "diagonal",
                                    "unbind",
                                    "empty",
                                    "empty_like",
                                    "empty_strided",
                                    "new_empty",
                                    "new_empty_strided",
                                    "resize_",
                                    "result_type",
                                    "to",
                                    "contiguous",
                                    "_to_copy",
                                    "lift_fresh",
                                    "resolve_conj",
                                    "resolve_neg",
                                    "view_as",
                                    "numpy_T",
                                    "set_",
                                    "split",
                                    "chunk",
                                    "squeeze_",
                                    "is_nonzero",
                                    "_has_same_storage_numel"};
  return name.starts_with("autograd::") || std::find(names.begin(), names.end(), name) != names.end();
}

inline std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  std::string name = function.name();
  if (name.starts_with("aten::")) name = name.substr(6);
  open.push_back({name});
  return nullptr;
}

inline void end(const at::RecordFunction&, at::ObserverContext*) {
  const Open finished = open.back();
  open.pop_back();
  const bool counts = !finished.has_parts && !launches_nothing(finished.name);
  if (counts) done.push_back(finished.name);
  if (!open.empty() && (counts || finished.has_parts)) open.back().has_parts = true;
}

}  // namespace recording

/// Names of the operations, without "aten::", in the order in which they ended. Of this thread.
inline std::vector<std::string> of(const std::function<void()>& code) {
  recording::done.clear();
  recording::open.clear();
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(recording::begin, recording::end).scopes({at::RecordScope::FUNCTION}));
  code();
  at::removeCallback(handle);
  return recording::done;
}

}  // namespace operations
