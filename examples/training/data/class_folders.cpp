#include "training/data/class_folders.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "support/files/paths.hpp"
#include "support/images/image_file.hpp"
#include "support/images/image_folder.hpp"
#include "support/process/error.hpp"
#include "training/data/decoded_images.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr const char* layout = "; expected train/<class>/<image> and val/<class>/<image>, of .jpg, .jpeg, .png or .pgm";

/// By their names, byte for byte, as Python sorts them.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders = visible_entries(folder);
  std::erase_if(folders, [](const fs::path& path) { return !is_folder(path); });
  std::ranges::sort(folders, {}, [](const fs::path& path) { return path.filename().string(); });
  return folders;
}

fs::path root_in(const fs::path& folder) {
  for (const fs::path& root : {folder, without_repeated_folder(folder)}) {
    if (is_folder(root / "train")) return root;
  }
  throw UserError(c10::str("the folder ", folder, " has no folder train", layout));
}

fs::path second_split_in(const fs::path& root) {
  for (const char* name : {"val", "test"}) {
    if (is_folder(root / name)) return root / name;
  }
  throw UserError(c10::str("the folder ", root, " has no folder val or test", layout));
}

void add_images(const fs::path& folder, int64_t label, std::vector<LabelledFile>& files) {
  for (const fs::path& path : images_below(folder)) files.push_back({path, label});
}

std::vector<LabelledFile> training_files(const std::vector<fs::path>& classes) {
  std::vector<LabelledFile> files;
  for (const fs::path& folder : classes) {
    const size_t before = files.size();
    add_images(folder, &folder - classes.data(), files);
    if (files.size() == before) throw UserError(c10::str("the folder ", folder, " holds no image", layout));
  }
  return files;
}

std::vector<LabelledFile> test_files(const fs::path& split, const std::vector<fs::path>& classes) {
  std::vector<LabelledFile> files;
  for (const fs::path& folder : folders_in(split)) {
    const auto found = std::ranges::find(classes, folder.filename(), &fs::path::filename);
    if (found == classes.end()) {
      throw UserError(
          c10::str("the folder ", folder, " is of a class that ", classes[0].parent_path(), " does not have"));
    }
    add_images(folder, found - classes.begin(), files);
  }
  if (files.empty()) throw UserError(c10::str("the folder ", split, " holds no image in a folder", layout));
  return files;
}

int64_t size_of(const fs::path& path) {
  const at::Tensor image = read_image(path, 3);
  if (image.size(1) == image.size(2)) return image.size(1);
  throw UserError(c10::str(path, " has ", image.size(2), " x ", image.size(1),
                           " pixels, expected as many rows as columns: bring all images to one square size first"));
}

/// Of each channel of uint8 [N, 3, H, W], in [0, 1].
void measure(const at::Tensor& images, Dataset& dataset) {
  const int64_t area = images.size(2) * images.size(3);
  std::array<std::array<int64_t, 256>, 3> counts = {};
  const auto* value = images.const_data_ptr<uint8_t>();
  for (int64_t plane = 0; plane < images.size(0) * 3; ++plane) {
    auto& histogram = counts[static_cast<size_t>(plane % 3)];
    for (int64_t i = 0; i < area; ++i) ++histogram[*value++];
  }
  const auto pixels = static_cast<double>(images.size(0) * area);
  for (const auto& histogram : counts) {
    double sum = 0, squares = 0;
    for (size_t shade = 0; shade < 256; ++shade) {
      const double x = static_cast<double>(shade) / 255, times = static_cast<double>(histogram[shade]);
      sum += times * x;
      squares += times * x * x;
    }
    const double mean = sum / pixels, variance = squares / pixels - mean * mean;
    dataset.mean.push_back(mean);
    dataset.deviation.push_back(std::max(std::sqrt(std::max(variance, 0.0)), 1.0 / 255));  // also of one shade alone
  }
}

}  // namespace

void read_class_folders(const fs::path& folder, Dataset& dataset) {
  const fs::path root = root_in(folder);
  const std::vector<fs::path> classes = folders_in(root / "train");
  if (classes.size() < 2) {
    throw UserError(c10::str("the folder ", root / "train", " has ", classes.size(),
                             classes.size() == 1 ? " folder" : " folders",
                             ", expected one for each of several classes"));
  }
  LabelledFiles files{training_files(classes), test_files(second_split_in(root), classes)};
  dataset.classes = std::ssize(classes);
  read_images(root, files, size_of(files.train.front().path), dataset);
  measure(dataset.train.images, dataset);
}

}  // namespace mma::examples
