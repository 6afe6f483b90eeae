#include "faces/features_file.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr const char* tensor_name = "features";
constexpr const char* names_key = "images";

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::unordered_map<std::string, int64_t> places_of(const std::vector<std::string>& names, const std::string& path) {
  std::unordered_map<std::string, int64_t> places;
  for (const std::string& name : names) {
    if (!places.emplace(name, std::ssize(places)).second)
      throw UserError(path + ": names the image " + name + " twice");
  }
  return places;
}

}  // namespace

StoredFeatures read_features(const std::filesystem::path& path) {
  const TensorFile file = read_tensor_file(path);
  const at::Tensor* rows = file.find(tensor_name);
  if (rows == nullptr || rows->dim() != 2 || rows->size(1) == 0 || !rows->is_floating_point()) {
    throw UserError(path.string() + ": has no tensor 'features' of floating type and shape [images, dimension]");
  }
  StoredFeatures features{*rows, {}};
  const auto names = file.metadata.find(names_key);
  if (names == file.metadata.end()) return features;
  features.names = lines_of(names->second);
  if (std::ssize(features.names) != rows->size(0)) {
    throw UserError(c10::str(path.string(), ": has ", rows->size(0), " features, but names ", features.names.size(),
                             " images in its metadata"));
  }
  return features;
}

void write_features(const std::filesystem::path& path, const StoredFeatures& features) {
  TensorFile file;
  file.tensors.emplace_back(tensor_name, features.rows);
  if (!features.names.empty()) file.metadata[names_key] = c10::Join("\n", features.names);
  write_tensor_file(path, file);
}

std::vector<ImagePair> rows_of_pairs(const std::vector<ImagePair>& pairs, const std::vector<std::string>& names,
                                     const StoredFeatures& features, const std::string& path) {
  std::vector<ImagePair> result = pairs;
  if (features.names.empty()) {
    if (features.rows.size(0) != 2 * std::ssize(pairs)) {
      throw UserError(c10::str(path, ": has ", features.rows.size(0), " features; expected two for each of ",
                               pairs.size(), " pairs, or names of the images in the metadata 'images'"));
    }
    for (int64_t i = 0; i < std::ssize(pairs); ++i) {
      result[static_cast<size_t>(i)].first = 2 * i;
      result[static_cast<size_t>(i)].second = 2 * i + 1;
    }
    return result;
  }
  if (names.empty()) throw UserError(path + ": names its images, which a .bin file does not; expected two rows a pair");
  const auto places = places_of(features.names, path);
  const auto place = [&](int64_t image) {
    const std::string& name = names[static_cast<size_t>(image)];
    const auto entry = places.find(name);
    if (entry == places.end()) throw UserError(path + ": has no feature of the image " + name);
    return entry->second;
  };
  for (ImagePair& pair : result) pair = {place(pair.first), place(pair.second), pair.same};
  return result;
}

}  // namespace mma::examples
