#include "training/data/cifar.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <string_view>

#include "support/files/numpy_pickle.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;
using Kind = PickleValue::Kind;

constexpr int64_t pixels = 3 * 32 * 32;

/// Records of `label_bytes` labels, the last of which counts, and 3 x 32 x 32 pixels.
LabelledImages read_records(const fs::path& path, int64_t label_bytes) {
  const int64_t record = label_bytes + pixels;
  Bytes bytes = content_of(path);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0 || size % record != 0) {
    throw UserError(quoted(path) + " holds " + std::to_string(size) + " bytes, expected a whole number of records of " +
                    std::to_string(record) + " bytes: it is truncated or of another data set");
  }
  const at::Tensor records = view_of(bytes, 0, {size / record, record});
  return {records.narrow(1, label_bytes, pixels).clone(at::MemoryFormat::Contiguous).view({-1, 3, 32, 32}),
          records.select(1, label_bytes - 1).to(at::kLong)};
}

/// A dictionary with an array of bytes 'data', an image a row, and a list of labels.
class PickledBatch {
 public:
  PickledBatch(const fs::path& path, const std::string& labels_key)
      : name_(quoted(path)), labels_key_(labels_key), pickle_(text_of(path), names_of_arrays(), name_) {
    if (!pickle_.root().is(Kind::Dict)) fail("is a pickle of something else; expected CIFAR's dictionary");
  }

  LabelledImages read() const {
    LabelledImages result{images(), labels()};
    if (result.images.size(0) == result.labels.size(0)) return result;
    fail("holds " + std::to_string(result.images.size(0)) + " images and " + std::to_string(result.labels.size(0)) +
         " labels");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + " " + what); }

  static std::string text_of(const fs::path& path) {
    const Bytes bytes = content_of(path);
    return {bytes.begin(), bytes.end()};
  }

  const PickleValue& entry(std::string_view key) const {
    const auto& items = pickle_.root().items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const bool is_text = items[i]->is(Kind::String) || is_bytes(*items[i]);
      if (is_text && (items[i]->is(Kind::String) ? *items[i] : bytes_or_text(*items[i])).text == key) {
        return *items[i + 1];
      }
    }
    fail("has no '" + std::string(key) + "': is it of another data set?");
  }

  at::Tensor images() const {
    const PickleValue& data = entry("data");
    const PickleValue* contents = contents_of_array(data, "u1");
    const auto layout = contents != nullptr ? layout_of_array(data) : std::nullopt;
    if (!layout || layout->shape.size() != 2 || layout->shape[0] < 1 || layout->shape[1] != pixels) {
      fail("has a 'data' of another kind, expected an array of NumPy of bytes, images x 3072");
    }
    const int64_t count = layout->shape[0];
    Bytes bytes = bytes_in(*contents);
    if (std::ssize(bytes) / pixels != count || std::ssize(bytes) % pixels != 0) {
      fail("holds " + std::to_string(bytes.size()) + " bytes for its " + std::to_string(count) + " images of 3072");
    }
    const at::Tensor rows =
        layout->by_columns ? view_of(bytes, 0, {pixels, count}).t() : view_of(bytes, 0, {count, pixels});
    return rows.clone(at::MemoryFormat::Contiguous).view({-1, 3, 32, 32});
  }

  Bytes bytes_in(const PickleValue& contents) const {
    if (contents.is(Kind::Bytes)) return {contents.text.begin(), contents.text.end()};
    const auto decoded = latin1_of(bytes_or_text(contents).text);
    if (!decoded) fail("is damaged: bytes that are written as text hold other characters");
    return {decoded->begin(), decoded->end()};
  }

  at::Tensor labels() const {
    const PickleValue& list = entry(labels_key_);
    std::vector<int64_t> labels;
    for (const PickleValue* item : list.items) {
      if (item->is(Kind::Int)) labels.push_back(item->integer);
    }
    if (!list.is(Kind::List) || labels.size() != list.items.size()) {
      fail("has '" + labels_key_ + "' of another kind, expected a list of whole numbers");
    }
    return at::tensor(labels, at::kLong);
  }

  std::string name_;
  std::string labels_key_;
  Pickle pickle_;
};

/// What sets CIFAR-100 and CIFAR-10 apart.
struct Kinds {
  int64_t label_bytes;
  const char* labels_key;
};

LabelledImages read_batch(const fs::path& path, const Kinds& kinds, int64_t classes) {
  const LabelledImages result =
      path.extension() == ".bin" ? read_records(path, kinds.label_bytes) : PickledBatch(path, kinds.labels_key).read();
  check_labels(result.labels, classes, path);
  return result;
}

/// The files of these names, all of one layout in one folder: that of the first.
std::vector<LabelledImages> read_batches(const Place& place, const std::vector<std::string>& names, const Kinds& kinds,
                                         int64_t classes) {
  const fs::path first = place.find({names[0] + ".bin", names[0]});
  const Place found = place.at(first.parent_path());
  std::vector<LabelledImages> batches;
  for (const std::string& name : names) {
    batches.push_back(read_batch(found.find({name + first.extension().string()}), kinds, classes));
  }
  return batches;
}

}  // namespace

void read_cifar100(const Place& place, Dataset& dataset) {
  const auto splits = read_batches(place, {"train", "test"}, {2, "fine_labels"}, dataset.classes);
  dataset.train = splits[0];
  dataset.test = splits[1];
}

void read_cifar10(const Place& place, Dataset& dataset) {
  std::vector<std::string> names;
  for (int i = 1; i <= 5; ++i) names.push_back("data_batch_" + std::to_string(i));
  names.emplace_back("test_batch");
  const auto batches = read_batches(place, names, {1, "labels"}, dataset.classes);
  std::vector<at::Tensor> images, labels;
  for (size_t i = 0; i < 5; ++i) {
    images.push_back(batches[i].images);
    labels.push_back(batches[i].labels);
  }
  dataset.train = {at::cat(images), at::cat(labels)};
  dataset.test = batches[5];
}

}  // namespace mma::examples
