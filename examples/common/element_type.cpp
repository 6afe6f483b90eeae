#include "element_type.hpp"

#include <algorithm>
#include <array>

namespace mma::examples {
namespace {

using c10::ScalarType;

constexpr std::array<ElementType, 10> element_types = {{
    {ScalarType::Double, "F64", "torch.DoubleStorage"},
    {ScalarType::Float, "F32", "torch.FloatStorage"},
    {ScalarType::Half, "F16", "torch.HalfStorage"},
    {ScalarType::BFloat16, "BF16", "torch.BFloat16Storage"},
    {ScalarType::Long, "I64", "torch.LongStorage"},
    {ScalarType::Int, "I32", "torch.IntStorage"},
    {ScalarType::Short, "I16", "torch.ShortStorage"},
    {ScalarType::Char, "I8", "torch.CharStorage"},
    {ScalarType::Byte, "U8", "torch.ByteStorage"},
    {ScalarType::Bool, "BOOL", "torch.BoolStorage"},
}};

template <typename Member, typename Value>
const ElementType* find(Member member, const Value& value) {
  const auto found = std::ranges::find(element_types, value, member);
  return found == element_types.end() ? nullptr : &*found;
}

}  // namespace

const ElementType* element_type_of(ScalarType type) { return find(&ElementType::type, type); }
const ElementType* element_type_in_safetensors(std::string_view name) { return find(&ElementType::safetensors, name); }
const ElementType* element_type_of_storage(std::string_view name) { return find(&ElementType::storage, name); }

}  // namespace mma::examples
