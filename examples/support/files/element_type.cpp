#include "support/files/element_type.hpp"

#include <algorithm>
#include <array>

namespace mma::examples {
namespace {

using c10::ScalarType;

constexpr std::array<ElementType, 21> element_types = {{
    {ScalarType::Double, "F64", "torch.DoubleStorage", "torch.float64"},
    {ScalarType::Float, "F32", "torch.FloatStorage", "torch.float32"},
    {ScalarType::Half, "F16", "torch.HalfStorage", "torch.float16"},
    {ScalarType::BFloat16, "BF16", "torch.BFloat16Storage", "torch.bfloat16"},
    {ScalarType::Long, "I64", "torch.LongStorage", "torch.int64"},
    {ScalarType::Int, "I32", "torch.IntStorage", "torch.int32"},
    {ScalarType::Short, "I16", "torch.ShortStorage", "torch.int16"},
    {ScalarType::Char, "I8", "torch.CharStorage", "torch.int8"},
    {ScalarType::Byte, "U8", "torch.ByteStorage", "torch.uint8"},
    {ScalarType::Bool, "BOOL", "torch.BoolStorage", "torch.bool"},
    {ScalarType::UInt16, "U16", "", "torch.uint16"},
    {ScalarType::UInt32, "U32", "", "torch.uint32"},
    {ScalarType::UInt64, "U64", "", "torch.uint64"},
    {ScalarType::Float8_e4m3fn, "F8_E4M3", "", "torch.float8_e4m3fn"},
    {ScalarType::Float8_e5m2, "F8_E5M2", "", "torch.float8_e5m2"},
    {ScalarType::Float8_e8m0fnu, "F8_E8M0", "", "torch.float8_e8m0fnu"},
    {ScalarType::Float8_e4m3fnuz, "", "", "torch.float8_e4m3fnuz"},
    {ScalarType::Float8_e5m2fnuz, "", "", "torch.float8_e5m2fnuz"},
    {ScalarType::ComplexFloat, "C64", "torch.ComplexFloatStorage", "torch.complex64"},
    {ScalarType::ComplexDouble, "", "torch.ComplexDoubleStorage", "torch.complex128"},
    {ScalarType::ComplexHalf, "", "", "torch.complex32"},
}};

template <typename Member, typename Value>
const ElementType* find(Member member, const Value& value) {
  const auto found = std::ranges::find(element_types, value, member);
  return found == element_types.end() ? nullptr : &*found;
}

const ElementType* find_name(std::string_view ElementType::*member, std::string_view name) {
  return name.empty() ? nullptr : find(member, name);
}

}  // namespace

const ElementType* element_type_of(ScalarType type) { return find(&ElementType::type, type); }

const ElementType* element_type_in_safetensors(std::string_view name) {
  return find_name(&ElementType::safetensors, name);
}

const ElementType* element_type_of_storage(std::string_view name) { return find_name(&ElementType::storage, name); }

const ElementType* element_type_in_python(std::string_view name) { return find_name(&ElementType::python, name); }

std::string name_of(ScalarType type) {
  const ElementType* element = element_type_of(type);
  return element != nullptr ? std::string(element->python) : c10::toString(type);
}

}  // namespace mma::examples
