#include "train/tiny_imagenet.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/util/StringUtil.h>
#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>

#include "common/error.hpp"
#include "common/image_decoding.hpp"
#include "common/image_file.hpp"
#include "common/tensor_file.hpp"
#include "common/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t size = 64;
constexpr int64_t pixels = size * size;
constexpr const char* archive = "; is this the unpacked tiny-imagenet-200?";

// --- what is there
// ----------------------------------------------------------------------------------------------------

struct LabelledFile {
  fs::path path;
  int64_t label;
};

struct Contents {
  int64_t classes = 0;
  std::vector<LabelledFile> train, test;
};

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw UserError(c10::str(path, " cannot be opened", archive));
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
    if (!labels.emplace(name, std::ssize(labels)).second) {
      throw UserError(c10::str(root / "wnids.txt", " names ", name, " twice"));
    }
  }
  return labels;
}

std::vector<LabelledFile> training_files(const fs::path& root, const std::map<std::string, int64_t>& labels) {
  std::vector<LabelledFile> files;
  for (const auto& [name, label] : labels) {
    const fs::path folder = root / "train" / name / "images";
    std::error_code error;
    std::vector<fs::path> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".JPEG") found.push_back(entry.path());
    }
    if (error) throw UserError(c10::str("the folder ", folder, " cannot be read: ", error.message(), archive));
    if (found.empty()) throw UserError(c10::str("the folder ", folder, " holds no .JPEG file", archive));
    std::sort(found.begin(), found.end());
    for (const fs::path& path : found) files.push_back({path, label});
  }
  return files;
}

std::vector<LabelledFile> validation_files(const fs::path& root, const std::map<std::string, int64_t>& labels) {
  const fs::path annotations = root / "val" / "val_annotations.txt";
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
    files.push_back({root / "val" / "images" / image, label->second});
  }
  return files;
}

Contents contents_of(const fs::path& root) {
  const std::map<std::string, int64_t> labels = labels_of(root);
  return {std::ssize(labels), training_files(root, labels), validation_files(root, labels)};
}

/// Of every file's name, label, size and time: FNV-1a. Throws UserError for a file that is not there.
std::string fingerprint(const fs::path& root, const Contents& contents) {
  uint64_t hash = 14695981039346656037U;
  const auto add = [&](const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  };
  for (const auto* split : {&contents.train, &contents.test}) {
    for (const auto& [path, label] : *split) {
      std::error_code error;
      const auto time = fs::last_write_time(path, error);
      const auto bytes = error ? 0 : fs::file_size(path, error);
      if (error) throw UserError(c10::str(path, " cannot be read: ", error.message()));
      add(c10::str(path.lexically_relative(root).string(), '\t', label, '\t', bytes, '\t',
                   time.time_since_epoch().count(), '\n'));
    }
  }
  return formatted("%016llx", static_cast<unsigned long long>(hash));
}

// --- one JPEG
// ---------------------------------------------------------------------------------------------------------

void decode(const fs::path& path, uint8_t* planes) {
  const at::Tensor image = read_jpeg(path, 3);
  if (image.size(1) != size || image.size(2) != size) {
    throw UserError(c10::str(path, " cannot be decoded as a JPEG image: it has ", image.size(2), " x ", image.size(1),
                             " pixels, expected 64 x 64"));
  }
  std::copy_n(image.const_data_ptr<uint8_t>(), 3 * pixels, planes);
}

// --- all of them
// ------------------------------------------------------------------------------------------------------

/// uint8 [N, 3, 64, 64].
at::Tensor decoded(const Contents& contents) {
  std::vector<const LabelledFile*> files;
  for (const auto* split : {&contents.train, &contents.test}) {
    for (const LabelledFile& file : *split) files.push_back(&file);
  }
  const at::Tensor images = at::empty({std::ssize(files), 3, size, size}, at::kByte);
  auto* planes = images.mutable_data_ptr<uint8_t>();
  decode_images(std::ssize(files), "TinyImageNet",
                [&](int64_t index) { decode(files[static_cast<size_t>(index)]->path, planes + index * 3 * pixels); });
  return images;
}

// --- the cache
// --------------------------------------------------------------------------------------------------------

std::string checksum(const at::Tensor& images) {
  const uLong sum = crc32_z(crc32_z(0, nullptr, 0), images.const_data_ptr<uint8_t>(), images.nbytes());
  return formatted("%08lx", sum);
}

/// The cached images, if they are those of these files.
std::optional<at::Tensor> cached(const fs::path& path, const std::string& files, int64_t count) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  try {
    const TensorFile file = read_tensor_file(path);
    const at::Tensor* images = file.find("images");
    const auto says = [&](const char* key, const std::string& value) {
      const auto found = file.metadata.find(key);
      return found != file.metadata.end() && found->second == value;
    };
    if (images != nullptr && images->sizes() == at::IntArrayRef({count, 3, size, size}) &&
        images->scalar_type() == at::kByte && says("files", files) && says("checksum", checksum(*images))) {
      return *images;
    }
  } catch (const UserError&) {  // cut, or not ours: made anew as well
  }
  std::cerr << path.string() << " is not of these files as they are now: decoding them again" << std::endl;
  return std::nullopt;
}

void write_cache(const fs::path& path, const std::string& files, const at::Tensor& images) {
  try {
    write_tensor_file(path, {{{"images", images}}, {{"files", files}, {"checksum", checksum(images)}}});
  } catch (const UserError& error) {
    std::cerr << "the decoded images are not kept for the next run: " << error.what() << std::endl;
  }
}

LabelledImages labelled(const std::vector<LabelledFile>& files, const at::Tensor& images) {
  std::vector<int64_t> labels;
  for (const LabelledFile& file : files) labels.push_back(file.label);
  return {images, at::tensor(labels, at::kLong)};
}

}  // namespace

void read_tiny_imagenet(const fs::path& root, Dataset& dataset) {
  const Contents contents = contents_of(root);
  const std::string files = fingerprint(root, contents);
  const int64_t train = std::ssize(contents.train), test = std::ssize(contents.test);
  const fs::path cache = root / tiny_imagenet_cache;
  std::optional<at::Tensor> images = cached(cache, files, train + test);
  if (!images) {
    images = decoded(contents);
    write_cache(cache, files, *images);
  }
  dataset.classes = contents.classes;
  dataset.train = labelled(contents.train, images->narrow(0, 0, train));
  dataset.test = labelled(contents.test, images->narrow(0, train, test));
}

}  // namespace mma::examples
