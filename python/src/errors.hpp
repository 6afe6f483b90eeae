// Our own errors in Python's words: a c10::Error whose sentence is the library's becomes a ValueError with that
// sentence.
#pragma once

#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <optional>
#include <string>

namespace mma::python {

/// The library's sentences name things as C++ does: mma::register_layer, Regularizer::add.
inline std::string as_python_says(std::string sentence) {
  for (size_t at = sentence.find("::"); at != std::string::npos; at = sentence.find("::", at)) {
    sentence.replace(at, 2, ".");
  }
  return sentence;
}

/// Weights are not made tensors of an inference that happens to be going on around the call.
template <typename Work>
auto with_value_errors(const Work& work) {
  std::optional<c10::InferenceMode> training;
  if (c10::InferenceMode::is_enabled()) training.emplace(false);
  try {
    return work();
  } catch (const c10::Error& error) {
    if (error.msg().starts_with("mma:")) {
      C10_THROW_ERROR(ValueError, as_python_says(error.msg()));
    }
    throw;
  }
}

}  // namespace mma::python
