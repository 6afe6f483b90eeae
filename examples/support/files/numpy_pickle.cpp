#include "support/files/numpy_pickle.hpp"

namespace mma::examples {

using Kind = PickleValue::Kind;

const std::set<std::string, std::less<>>& names_of_arrays() {
  static const std::set<std::string, std::less<>> names = {
      "_codecs.encode",
      "numpy.dtype",
      "numpy.ndarray",
      "numpy.core.multiarray.scalar",
      "numpy._core.multiarray.scalar",
      "numpy.core.multiarray._reconstruct",
      "numpy._core.multiarray._reconstruct",
      "numpy.core.numeric._frombuffer",
      "numpy._core.numeric._frombuffer",
  };
  return names;
}

const PickleValue& argument(const PickleValue& call, size_t index) { return *call.arguments->items[index]; }

bool is_bytes(const PickleValue& value) {
  return value.is(Kind::Bytes) || (is_call_of(value, "_codecs.encode", 2) && argument(value, 0).is(Kind::String) &&
                                   (argument(value, 1).text == "latin1" || argument(value, 1).text == "latin-1"));
}

bool is_type(const PickleValue& value, std::string_view type) {
  return is_call_of(value, "numpy.dtype", 1) && argument(value, 0).text == type;
}

const PickleValue* contents_of_array(const PickleValue& value, std::string_view type) {
  const PickleValue* contents = nullptr;
  if (is_call_of(value, "numpy._core.numeric._frombuffer", 2)) {  // (bytes, type, shape, order)
    if (is_type(argument(value, 1), type)) contents = &argument(value, 0);
  } else if (is_call_of(value, "numpy._core.multiarray._reconstruct", 1) && value.state != nullptr) {
    const auto& state = value.state->items;  // (version, shape, type, in Fortran's order?, bytes)
    if (state.size() == 5 && is_type(*state[2], type)) contents = state[4];
  }
  return contents != nullptr && is_bytes(*contents) ? contents : nullptr;
}

const PickleValue& bytes_or_text(const PickleValue& bytes) {
  return bytes.is(Kind::Bytes) ? bytes : argument(bytes, 0);
}

std::optional<std::string> latin1_of(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      bytes.push_back(text[i]);
      continue;
    }
    const bool is_pair = (lead == 0xc2 || lead == 0xc3) && i + 1 < text.size();
    const unsigned next = is_pair ? static_cast<unsigned char>(text[++i]) : 0;
    if ((next & 0xc0) != 0x80) return std::nullopt;
    bytes.push_back(static_cast<char>((lead & 3U) << 6U | (next & 0x3fU)));
  }
  return bytes;
}

std::optional<ArrayLayout> layout_of_array(const PickleValue& value) {
  const bool is_buffer = is_call_of(value, "numpy._core.numeric._frombuffer", 4);  // (bytes, type, shape, order)
  if (!is_buffer && (value.state == nullptr || value.state->items.size() != 5)) return std::nullopt;
  const auto& items = is_buffer ? value.arguments->items : value.state->items;  // (version, shape, type, order, bytes)
  const PickleValue& shape = *items[is_buffer ? 2 : 1];
  const PickleValue& order = *items[3];
  ArrayLayout layout{{}, is_buffer ? order.text == "F" : order.integer != 0};
  if (!shape.is(Kind::Tuple)) return std::nullopt;
  for (const PickleValue* length : shape.items) {
    if (!length->is(Kind::Int) || length->integer < 0) return std::nullopt;
    layout.shape.push_back(length->integer);
  }
  return layout;
}

}  // namespace mma::examples
