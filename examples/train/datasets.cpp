#include "datasets.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <system_error>

#include "common/error.hpp"
#include "train/tiny_imagenet.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

std::string quoted(const fs::path& path) {
  const std::string text = path.string();
  return "'" + text + "'";
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string result;
  for (const std::string& word : words) {
    result += (result.empty() ? "" : separator) + word;
  }
  return result;
}

/// Where the files of a data set are: the folder that the user named, or one inside it where its publisher puts them.
struct Place {
  std::string dataset;
  std::vector<fs::path> folders;

  /// The first file that has one of the names.
  fs::path find(const std::vector<std::string>& names) const {
    for (const fs::path& folder : folders) {
      for (const std::string& name : names) {
        std::error_code ignored;
        if (fs::is_regular_file(folder / name, ignored)) {
          return folder / name;
        }
      }
    }
    std::vector<std::string> searched;
    for (const fs::path& folder : folders) {
      searched.push_back(quoted(folder));
    }
    throw UserError(dataset + ": found no " + joined(names, " or ") + " in " + joined(searched, " or "));
  }
};

/// Why zlib stopped reading, without the path that it puts before it.
std::string reason(gzFile file, const fs::path& path) {
  int code = Z_OK;
  const std::string message = gzerror(file, &code);
  if (code == Z_ERRNO) {
    return std::strerror(errno);
  }
  const std::string prefix = path.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

/// The whole content of a file, unpacked if it is a gzip file.
Bytes content(const fs::path& path) {
  constexpr unsigned chunk = 1U << 20;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose_r);
  if (!file) {
    throw UserError(quoted(path) + " cannot be opened: " + std::strerror(errno));
  }
  Bytes bytes;
  bytes.reserve(static_cast<size_t>(fs::file_size(path)) + chunk);
  int got = 1;
  while (got > 0) {
    const size_t size = bytes.size();
    bytes.resize(size + chunk);
    got = gzread(file.get(), bytes.data() + size, chunk);
    bytes.resize(size + static_cast<size_t>(std::max(got, 0)));
  }
  int code = Z_OK;
  gzerror(file.get(), &code);
  if (code != Z_OK) {  // a gzip file that was cut has no failing read, only this
    throw UserError(quoted(path) + " cannot be read to its end: " + reason(file.get(), path));
  }
  return bytes;
}

void check_labels(const at::Tensor& labels, int64_t classes, const fs::path& path) {
  const int64_t* label = labels.const_data_ptr<int64_t>();
  const auto* bad = std::find_if(label, label + labels.numel(), [=](int64_t value) { return value >= classes; });
  if (bad != label + labels.numel()) {
    throw UserError(quoted(path) + " gives image " + std::to_string(bad - label) + " the label " +
                    std::to_string(*bad) + ", expected one of 0 to " + std::to_string(classes - 1));
  }
}

/// A tensor over bytes that somebody else owns.
at::Tensor view_of(Bytes& bytes, size_t offset, at::IntArrayRef shape) {
  return at::from_blob(bytes.data() + offset, shape, at::TensorOptions(at::kByte));
}

/// A file of the CIFAR binary layout: records of `label_bytes` labels, the last of which counts, and 3 x 32 x 32
/// pixels.
LabelledImages read_cifar(const fs::path& path, int64_t label_bytes, int64_t classes) {
  constexpr int64_t pixels = 3 * 32 * 32;
  const int64_t record = label_bytes + pixels;
  Bytes bytes = content(path);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0 || size % record != 0) {
    throw UserError(quoted(path) + " holds " + std::to_string(size) + " bytes, expected a whole number of records of " +
                    std::to_string(record) + " bytes: it is truncated or of another data set");
  }
  const at::Tensor records = view_of(bytes, 0, {size / record, record});
  LabelledImages result;
  result.images = records.narrow(1, label_bytes, pixels).clone(at::MemoryFormat::Contiguous).view({-1, 3, 32, 32});
  result.labels = records.select(1, label_bytes - 1).to(at::kLong);
  check_labels(result.labels, classes, path);
  return result;
}

/// The shape in an IDX file's header: a magic number (0, 0, 8 for unsigned bytes, the number of dimensions), then each
/// dimension, in 32 bits, the highest first.
std::vector<int64_t> idx_shape(const Bytes& bytes, size_t dimensions, const fs::path& path) {
  const auto number = [&](size_t index) {
    const uint8_t* at = bytes.data() + 4 * index;
    return int64_t{at[0]} << 24 | int64_t{at[1]} << 16 | int64_t{at[2]} << 8 | int64_t{at[3]};
  };
  if (bytes.size() < 4 * (dimensions + 1) || number(0) != static_cast<int64_t>(0x0800 + dimensions)) {
    throw UserError(quoted(path) + " does not begin with the header of an IDX file of " +
                    (dimensions == 1 ? "labels" : "images"));
  }
  std::vector<int64_t> shape;
  for (size_t i = 1; i <= dimensions; ++i) {
    shape.push_back(number(i));
  }
  return shape;
}

/// An IDX file of unsigned bytes whose items have this shape.
at::Tensor read_idx(const fs::path& path, const std::vector<int64_t>& item_shape) {
  Bytes bytes = content(path);
  const std::vector<int64_t> shape = idx_shape(bytes, item_shape.size() + 1, path);
  if (!std::equal(item_shape.begin(), item_shape.end(), shape.begin() + 1)) {
    throw UserError(quoted(path) + " holds images of " + std::to_string(shape[1]) + " x " + std::to_string(shape[2]) +
                    " pixels, expected 28 x 28");
  }
  if (shape[0] == 0) {
    throw UserError(quoted(path) + " is empty by its header, expected at least one item");
  }
  const size_t header = 4 * (shape.size() + 1), held = bytes.size() - header;
  const auto announced = static_cast<size_t>(c10::multiply_integers(shape));
  if (held != announced) {
    throw UserError(quoted(path) + (held < announced ? " is truncated: " : " has bytes to spare: ") +
                    std::to_string(held) + " bytes follow its header, which announces " + std::to_string(announced));
  }
  return view_of(bytes, header, shape).clone();
}

LabelledImages read_mnist(const Place& place, const std::string& split, int64_t classes) {
  const auto find = [&](const std::string& name) { return place.find({name, name + ".gz"}); };
  const fs::path images = find(split + "-images-idx3-ubyte"), labels = find(split + "-labels-idx1-ubyte");
  LabelledImages result;
  result.images = read_idx(images, {28, 28}).unsqueeze(1);
  result.labels = read_idx(labels, {}).to(at::kLong);
  if (result.labels.size(0) != result.images.size(0)) {
    throw UserError(quoted(labels) + " holds " + std::to_string(result.labels.size(0)) + " labels for the " +
                    std::to_string(result.images.size(0)) + " images of " + quoted(images));
  }
  check_labels(result.labels, classes, labels);
  return result;
}

void read_cifar100(const Place& place, Dataset& dataset) {
  dataset.train = read_cifar(place.find({"train.bin"}), 2, dataset.classes);
  dataset.test = read_cifar(place.find({"test.bin"}), 2, dataset.classes);
}

void read_cifar10(const Place& place, Dataset& dataset) {
  std::vector<at::Tensor> images, labels;
  for (int i = 1; i <= 5; ++i) {
    const fs::path path = place.find({"data_batch_" + std::to_string(i) + ".bin"});
    const LabelledImages batch = read_cifar(path, 1, dataset.classes);
    images.push_back(batch.images);
    labels.push_back(batch.labels);
  }
  dataset.train = {at::cat(images), at::cat(labels)};
  dataset.test = read_cifar(place.find({"test_batch.bin"}), 1, dataset.classes);
}

void read_fashion_mnist(const Place& place, Dataset& dataset) {
  dataset.train = read_mnist(place, "train", dataset.classes);
  dataset.test = read_mnist(place, "t10k", dataset.classes);
}

void read_tiny_imagenet_at(const Place& place, Dataset& dataset) {
  read_tiny_imagenet(place.find({"wnids.txt"}).parent_path(), dataset);
}

/// What is known of a data set before its files are read.
struct Source {
  Dataset description;
  std::string inner_folder;  ///< the folder that its publisher's archive unpacks to
  void (*read)(const Place& place, Dataset& dataset);
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = {
      {{"cifar100", 100, {}, {}, {.5071, .4866, .4409}, {.2673, .2564, .2762}}, "cifar-100-binary", read_cifar100},
      {{"cifar10", 10, {}, {}, {.4914, .4822, .4465}, {.2470, .2435, .2616}}, "cifar-10-batches-bin", read_cifar10},
      {{"fashion-mnist", 10, {}, {}, {.2860}, {.3530}}, "fashion-mnist", read_fashion_mnist},
      {{"tiny-imagenet", 200, {}, {}, {.4802, .4481, .3975}, {.2770, .2691, .2821}},
       "tiny-imagenet-200",
       read_tiny_imagenet_at}};
  return all;
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Source& source : sources()) {
      result.push_back(source.description.name);
    }
    return result;
  }();
  return names;
}

Dataset load_dataset(const std::string& name, const fs::path& folder) {
  const auto source = std::find_if(sources().begin(), sources().end(),
                                   [&](const Source& each) { return each.description.name == name; });
  if (source == sources().end()) {
    throw UserError("unknown data set '" + name + "': expected one of " + joined(dataset_names(), ", "));
  }
  Dataset dataset = source->description;
  source->read({name, {folder, folder / source->inner_folder}}, dataset);
  return dataset;
}

}  // namespace mma::examples
