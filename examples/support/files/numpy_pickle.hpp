// Arrays of NumPy and bytes inside of pickles, as the Pythons and NumPys of the years write them. Read as data, like
// all of a pickle.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "support/files/unpickler.hpp"

namespace mma::examples {

/// The Python names that a pickle of bytes and of NumPy's arrays and scalars refers to: what Pickle may allow.
const std::set<std::string, std::less<>>& names_of_arrays();

const PickleValue& argument(const PickleValue& call, size_t index);

/// Bytes, or the text that Python 3 writes for them in protocol 2: _codecs.encode(text, 'latin1').
bool is_bytes(const PickleValue& value);

/// Where the bytes lie: the text inside a call of _codecs.encode.
const PickleValue& bytes_or_text(const PickleValue& bytes);

/// From UTF-8 to a byte a character; nothing when a character is above 255 or the text is damaged.
std::optional<std::string> latin1_of(std::string_view text);

/// Whether the value is a type of NumPy's, such as "u1".
bool is_type(const PickleValue& value, std::string_view type);

/// What an array of NumPy with elements of this type holds, as is_bytes has it; nullptr when it is not one.
const PickleValue* contents_of_array(const PickleValue& value, std::string_view type);

struct ArrayLayout {
  std::vector<int64_t> shape;
  bool by_columns = false;  ///< in Fortran's order
};

/// Of a value that contents_of_array takes for an array; nothing when it is damaged.
std::optional<ArrayLayout> layout_of_array(const PickleValue& value);

}  // namespace mma::examples
