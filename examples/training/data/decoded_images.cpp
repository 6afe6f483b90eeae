#include "training/data/decoded_images.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/util/StringUtil.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <iostream>
#include <optional>

#include "support/files/paths.hpp"
#include "support/files/tensor_file.hpp"
#include "support/images/image_decoding.hpp"
#include "support/images/image_file.hpp"
#include "support/process/error.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

/// Of every file's name, label, size and time: FNV-1a. Throws UserError for a file that is not there.
std::string fingerprint(const fs::path& root, const LabelledFiles& files) {
  uint64_t hash = 14695981039346656037U;
  const auto add = [&](const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  };
  for (const auto* split : {&files.train, &files.test}) {
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

// --- decoding
// ---------------------------------------------------------------------------------------------------------

void decode(const fs::path& path, int64_t size, uint8_t* planes) {
  const at::Tensor image = read_image(path, 3);
  if (image.size(1) != size || image.size(2) != size) {
    throw UserError(c10::str(path, " has ", image.size(2), " x ", image.size(1), " pixels, expected ", size, " x ",
                             size, " as all images of this data set have"));
  }
  std::copy_n(image.const_data_ptr<uint8_t>(), image.numel(), planes);
}

void check_memory(int64_t images, int64_t size, const std::string& dataset) {
  const double needed = 3.0 * static_cast<double>(images) * static_cast<double>(size) * static_cast<double>(size);
  const double there = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (needed <= there) return;
  throw UserError(c10::str(dataset, ": ", images, " images of ", size, " x ", size, " pixels take ",
                           formatted("%.1f GB of memory, this machine has %.1f GB", needed / 1e9, there / 1e9)));
}

/// uint8 [N, 3, size, size].
at::Tensor decoded(const LabelledFiles& splits, int64_t size, const std::string& dataset) {
  std::vector<const LabelledFile*> files;
  for (const auto* split : {&splits.train, &splits.test}) {
    for (const LabelledFile& file : *split) files.push_back(&file);
  }
  const at::Tensor images = at::empty({std::ssize(files), 3, size, size}, at::kByte);
  auto* planes = images.mutable_data_ptr<uint8_t>();
  decode_images(std::ssize(files), dataset, [&](int64_t index) {
    decode(files[static_cast<size_t>(index)]->path, size, planes + index * 3 * size * size);
  });
  return images;
}

// --- the cache
// --------------------------------------------------------------------------------------------------------

std::string checksum(const at::Tensor& images) {
  const uLong sum = crc32_z(crc32_z(0, nullptr, 0), images.const_data_ptr<uint8_t>(), images.nbytes());
  return formatted("%08lx", sum);
}

/// The cached images, if they are those of these files.
std::optional<at::Tensor> cached(const fs::path& path, const std::string& files, at::IntArrayRef shape) {
  if (!is_there(path)) return std::nullopt;
  try {
    const TensorFile file = read_tensor_file(path);
    const at::Tensor* images = file.find("images");
    const auto says = [&](const char* key, const std::string& value) {
      const auto found = file.metadata.find(key);
      return found != file.metadata.end() && found->second == value;
    };
    if (images != nullptr && images->sizes() == shape && images->scalar_type() == at::kByte && says("files", files) &&
        says("checksum", checksum(*images))) {
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

void read_images(const fs::path& root, const LabelledFiles& files, int64_t size, Dataset& dataset) {
  const int64_t train = std::ssize(files.train), test = std::ssize(files.test);
  check_memory(train + test, size, dataset.name);
  const std::string state = fingerprint(root, files);
  const fs::path cache = root / decoded_images_file;
  std::optional<at::Tensor> images = cached(cache, state, {train + test, 3, size, size});
  if (!images) {
    images = decoded(files, size, dataset.name);
    write_cache(cache, state, *images);
  }
  dataset.train = labelled(files.train, images->narrow(0, 0, train));
  dataset.test = labelled(files.test, images->narrow(0, train, test));
}

}  // namespace mma::examples
