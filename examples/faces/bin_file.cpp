#include "faces/bin_file.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <optional>

#include "support/files/file_contents.hpp"
#include "support/files/numpy_pickle.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Kind = PickleValue::Kind;

bool is_list(const PickleValue& value) { return value.is(Kind::List) || value.is(Kind::Tuple); }

/// Empty when the value is no truth value.
std::optional<bool> truth_of(const PickleValue& value) {
  if (value.is(Kind::Bool) || (value.is(Kind::Int) && (value.integer == 0 || value.integer == 1))) {
    return value.integer == 1;
  }
  const bool is_scalar = is_call_of(value, "numpy._core.multiarray.scalar", 2) && is_type(argument(value, 0), "b1") &&
                         is_bytes(argument(value, 1));
  if (!is_scalar) return std::nullopt;
  const std::string_view byte = bytes_or_text(argument(value, 1)).text;
  if (byte.size() != 1 || (byte[0] != 0 && byte[0] != 1)) return std::nullopt;
  return byte[0] == 1;
}

/// The list that says which pairs are the same; empty when it is something else.
std::optional<std::vector<bool>> truths_of(const PickleValue& value) {
  std::vector<bool> truths;
  if (const PickleValue* array = contents_of_array(value, "b1")) {
    for (const char byte : bytes_or_text(*array).text) truths.push_back(byte != 0);
    return truths;
  }
  if (!is_list(value)) return std::nullopt;
  for (const PickleValue* item : value.items) {
    const std::optional<bool> truth = truth_of(*item);
    if (!truth) return std::nullopt;
    truths.push_back(*truth);
  }
  return truths;
}

}  // namespace

BinFile::BinFile(const fs::path& path) : name_(path.string()), pickle_(contents_of(path), names_of_arrays(), name_) {
  const PickleValue& root = pickle_.root();
  if (!is_list(root) || root.items.size() != 2 || !is_list(*root.items[0])) {
    fail("is a pickle of something else; expected a list of images and a list that says which pairs are the same");
  }
  const std::optional<std::vector<bool>> same = truths_of(*root.items[1]);
  if (!same) fail("has something else than truth values in its second list; expected one for each pair");
  if (same->empty()) fail("holds no pairs");
  read_images(*root.items[0], std::ssize(*same));
  for (size_t i = 0; i < same->size(); ++i) pairs_[i].same = (*same)[i];
}

void BinFile::fail(const std::string& what) const { throw UserError(name_ + ": " + what); }

std::string BinFile::name_of(int64_t image) const {
  return c10::str(name_, ": its image ", numbers_[static_cast<size_t>(image)], " of ", 2 * pairs_.size());
}

void BinFile::read_images(const PickleValue& list, int64_t pairs) {
  if (std::ssize(list.items) != 2 * pairs) {
    fail(c10::str("holds ", list.items.size(), " images for ", pairs, " pairs; expected two for each pair"));
  }
  for (size_t i = 0; i < list.items.size(); i += 2) {
    const int64_t number = static_cast<int64_t>(i) + 1;
    const int64_t first = place_of(*list.items[i], number);
    pairs_.push_back({first, place_of(*list.items[i + 1], number + 1)});
  }
  places_by_value_.clear();
  places_by_bytes_.clear();
}

/// The same value is looked at once: time stays bounded by the file's length, however often it refers to one value.
int64_t BinFile::place_of(const PickleValue& value, int64_t number) {
  const PickleValue* array = contents_of_array(value, "u1");
  const PickleValue& bytes = array != nullptr ? *array : value;
  if (!is_bytes(bytes)) fail(c10::str("its image ", number, " is not the bytes of an image file"));
  const auto [known, is_new] = places_by_value_.try_emplace(&bytes_or_text(bytes), 0);
  if (!is_new) return known->second;
  const std::string_view encoded = decoded(bytes);
  const auto [equal, is_first] = places_by_bytes_.try_emplace(encoded, std::ssize(images_));
  if (is_first) {
    images_.push_back(encoded);
    numbers_.push_back(number);
  }
  return known->second = equal->second;
}

std::string_view BinFile::decoded(const PickleValue& bytes) {
  if (bytes.is(Kind::Bytes)) return bytes.text;
  std::optional<std::string> latin1 = latin1_of(bytes_or_text(bytes).text);
  if (!latin1) fail("is damaged: bytes that are written as text hold other characters");
  return decoded_.emplace_back(std::move(*latin1));
}

}  // namespace mma::examples
