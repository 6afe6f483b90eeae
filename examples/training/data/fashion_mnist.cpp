#include "training/data/fashion_mnist.hpp"

#include <c10/util/accumulate.h>

#include <algorithm>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

/// The shape in an IDX file's header: a magic number (0, 0, 8 for unsigned bytes, the number of dimensions), then each
/// dimension, in 32 bits, the highest first.
std::vector<int64_t> idx_shape(size_t dimensions, const fs::path& path) {
  const Bytes bytes = beginning_of(path, 4 * (dimensions + 1));
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
  const std::vector<int64_t> shape = idx_shape(item_shape.size() + 1, path);
  if (!std::equal(item_shape.begin(), item_shape.end(), shape.begin() + 1)) {
    throw UserError(quoted(path) + " holds images of " + std::to_string(shape[1]) + " x " + std::to_string(shape[2]) +
                    " pixels, expected 28 x 28");
  }
  if (shape[0] == 0) {
    throw UserError(quoted(path) + " is empty by its header, expected at least one item");
  }
  constexpr size_t to_spare = 1 << 20;
  const size_t header = 4 * (shape.size() + 1);
  const auto announced = static_cast<size_t>(c10::multiply_integers(shape));
  Bytes bytes = content_of(path, std::min(most_bytes_of_file, header + announced + to_spare));
  const size_t held = bytes.size() - header;
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

}  // namespace

void read_fashion_mnist(const Place& place, Dataset& dataset) {
  dataset.train = read_mnist(place, "train", dataset.classes);
  dataset.test = read_mnist(place, "t10k", dataset.classes);
}

}  // namespace mma::examples
