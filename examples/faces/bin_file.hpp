// insightface's verification sets (lfw.bin, cfp_fp.bin, agedb_30.bin): a pickle of the encoded images, two for each
// pair, and of the list that says which pairs show one identity. It is read as data; nothing in it is executed.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "faces/pairs_file.hpp"
#include "support/files/unpickler.hpp"

namespace mma::examples {

/// Keeps the file's bytes in memory, once; the images are decoded when they are needed.
class BinFile {
 public:
  /// Reads what any Python wrote by protocol 2 to 5: images as bytes, or as arrays of bytes of NumPy; the list of
  /// bools, of 0 and 1, of NumPy's bools or an array of them. Throws UserError that begins with the path: absent, no
  /// pickle, truncated, anything in it that is not plain data, other contents, not two images for each pair.
  explicit BinFile(const std::filesystem::path& path);
  BinFile(const BinFile&) = delete;
  BinFile& operator=(const BinFile&) = delete;

  /// The encoded images, each once however many pairs show it, in the order of the file.
  const std::vector<std::string_view>& images() const { return images_; }

  /// For a sentence about an image: "lfw.bin: its image 7 of 12000".
  std::string name_of(int64_t image) const;

  /// In the file's order.
  const std::vector<ImagePair>& pairs() const { return pairs_; }

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void read_images(const PickleValue& list, int64_t pairs);
  int64_t place_of(const PickleValue& value, int64_t number);
  std::string_view decoded(const PickleValue& bytes);

  std::string name_;
  Pickle pickle_;
  std::deque<std::string> decoded_;  // of images that Python 3 wrote as text, see decoded()
  std::vector<std::string_view> images_;
  std::vector<int64_t> numbers_;  // of each image's first place in the file, from 1
  std::vector<ImagePair> pairs_;
  std::unordered_map<const PickleValue*, int64_t> places_by_value_;
  std::unordered_map<std::string_view, int64_t> places_by_bytes_;
};

}  // namespace mma::examples
