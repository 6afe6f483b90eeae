// The element types that tensor files may hold, with their names in safetensors and in Python's pickles.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace mma::examples {

inline constexpr size_t most_dimensions = 64;  ///< of a tensor: PyTorch's own limit

struct ElementType {
  c10::ScalarType type;
  std::string_view safetensors;  ///< "F32"; empty: the format has none
  std::string_view storage;      ///< "torch.FloatStorage"; empty: such tensors lie in untyped storages
  std::string_view python;       ///< "torch.float32"
};

/// nullptr when the name or type is not one of them.
const ElementType* element_type_of(c10::ScalarType type);
const ElementType* element_type_in_safetensors(std::string_view name);
const ElementType* element_type_of_storage(std::string_view name);
const ElementType* element_type_in_python(std::string_view name);

/// "torch.float32", for sentences; what LibTorch calls a type that is not in the list.
std::string name_of(c10::ScalarType type);

}  // namespace mma::examples
