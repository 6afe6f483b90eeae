#include "training/data/tiny_imagenet.hpp"

#include <c10/util/StringUtil.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "support/files/file_contents.hpp"
#include "support/files/paths.hpp"
#include "support/images/image_folder.hpp"
#include "support/process/error.hpp"
#include "training/data/decoded_images.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t size = 64;
constexpr uint64_t most_bytes = uint64_t{4} << 20;  // of a list of names; the longest has 400 kB
constexpr const char* archive = "; is this the unpacked tiny-imagenet-200?";

std::vector<std::string> lines_of(const fs::path& path) {
  if (!is_there(path)) throw UserError(c10::str(path, " cannot be opened", archive));
  std::istringstream file(contents_of(path, most_bytes));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) throw UserError(c10::str(path, " is empty"));
  return lines;
}

std::map<std::string, int64_t> labels_of(const fs::path& root) {
  std::vector<std::string> names = lines_of(root / "wnids.txt");
  std::sort(names.begin(), names.end());
  std::map<std::string, int64_t> labels;
  for (const std::string& name : names) {
    if (name.find('/') != std::string::npos || name.starts_with('.')) {  // folders elsewhere are not the data set's
      throw UserError(c10::str(root / "wnids.txt", " names '", name, "'; expected a folder such as n01443537"));
    }
    if (!labels.emplace(name, std::ssize(labels)).second) {
      throw UserError(c10::str(root / "wnids.txt", " names ", name, " twice"));
    }
  }
  return labels;
}

using Labels = std::map<std::string, int64_t>;

/// In train/<wnid>/images, or where a script has moved them.
std::vector<LabelledFile> training_files(const fs::path& root, const Labels& labels) {
  std::vector<LabelledFile> files;
  for (const auto& [name, label] : labels) {
    const fs::path folder = root / "train" / name;
    if (!is_folder(folder)) throw UserError(c10::str("there is no folder ", folder, archive));
    const std::vector<fs::path> found = images_below(folder);
    if (found.empty()) throw UserError(c10::str("the folder ", folder, " holds no image", archive));
    for (const fs::path& path : found) files.push_back({path, label});
  }
  return files;
}

/// The images that val_annotations.txt names, in its order.
std::vector<LabelledFile> annotated_files(const fs::path& root, const Labels& labels) {
  const fs::path annotations = root / "val" / "val_annotations.txt", folder = root / "val" / "images";
  std::map<std::string, fs::path> by_stem;
  if (is_folder(folder)) {
    for (const fs::path& path : images_in(folder)) by_stem.emplace(path.stem().string(), path);
  }
  std::vector<LabelledFile> files;
  for (const std::string& line : lines_of(annotations)) {
    std::istringstream words(line);
    std::string image, name;
    std::getline(words, image, '\t');
    std::getline(words, name, '\t');
    const auto label = labels.find(name);
    if (label == labels.end()) {
      throw UserError(c10::str(annotations, ", line ", files.size() + 1, ": expected an image and one of wnids.txt's ",
                               labels.size(), " names with a tabulator between them, found '", line, "'"));
    }
    const fs::path named = folder / image;
    const auto other = by_stem.find(named.stem().string());  // converted, or with another ending
    files.push_back({other == by_stem.end() || is_there(named) ? named : other->second, label->second});
  }
  return files;
}

/// The images that a script has moved or copied to val/<wnid>.
std::vector<LabelledFile> sorted_out_files(const fs::path& root, const Labels& labels) {
  std::vector<LabelledFile> files;
  for (const auto& [name, label] : labels) {
    const fs::path folder = root / "val" / name;
    if (!is_folder(folder)) continue;
    for (const fs::path& path : images_below(folder)) files.push_back({path, label});
  }
  return files;
}

/// Images that are still in val/images alone, as after a script that was stopped.
std::vector<LabelledFile> left_behind(const fs::path& root, const Labels& labels,
                                      const std::vector<LabelledFile>& sorted_out) {
  std::set<fs::path> names;
  for (const LabelledFile& file : sorted_out) names.insert(file.path.stem());
  const auto is_sorted_out = [&](const fs::path& path) { return names.contains(path.stem()); };
  const fs::path folder = root / "val" / "images";
  if (!is_folder(folder) || std::ranges::all_of(images_in(folder), is_sorted_out)) return {};
  std::vector<LabelledFile> files = annotated_files(root, labels);
  std::erase_if(files, [&](const LabelledFile& file) { return is_sorted_out(file.path) || !is_there(file.path); });
  return files;
}

std::vector<LabelledFile> validation_files(const fs::path& root, const Labels& labels) {
  std::vector<LabelledFile> files = sorted_out_files(root, labels);
  if (files.empty()) return annotated_files(root, labels);
  const std::vector<LabelledFile> left = left_behind(root, labels, files);
  files.insert(files.end(), left.begin(), left.end());
  std::ranges::stable_sort(files,
                           [](const LabelledFile& a, const LabelledFile& b) {  // as the publisher's list has them
                             return strverscmp(a.path.filename().c_str(), b.path.filename().c_str()) < 0;
                           });
  return files;
}

}  // namespace

void read_tiny_imagenet(const fs::path& root, Dataset& dataset) {
  const Labels labels = labels_of(root);
  dataset.classes = std::ssize(labels);
  read_images(root, {training_files(root, labels), validation_files(root, labels)}, size, dataset);
}

}  // namespace mma::examples
