#include "support/files/torch_save_file.hpp"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <exception>
#include <map>
#include <memory>

#include "support/files/pickled_tensors.hpp"
#include "support/files/state_dict.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;
using caffe2::serialize::PyTorchStreamReader;

constexpr uint64_t longest_pickle = 64 << 20;

TensorFile tensors_of(const PickledTensors& pickled, TensorMaker maker) {
  TensorFile file;
  for (const auto& [name, tensor] : pickled) {
    std::string why;
    at::Tensor made = maker.make(name, tensor, why);
    if (made.defined()) {
      file.tensors.emplace_back(name, std::move(made));
    } else {
      file.skipped.emplace_back(name, why);
    }
  }
  return file;
}

/// A file as LibTorch's reader of archives takes it, which cannot tell a file that ends from one that the system fails
/// to read. Nothing may be thrown through it.
class ZipSource : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit ZipSource(const SeekableFile& file) : file_(file) {}

  size_t size() const override { return file_.size(); }

  size_t read(uint64_t position, void* bytes, size_t count, const char* /*what*/) const override {
    try {
      return file_.read(position, bytes, count);
    } catch (...) {
      failure_ = std::current_exception();
      return 0;
    }
  }

  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const SeekableFile& file_;
  mutable std::exception_ptr failure_;
};

class ZipReader {
 public:
  ZipReader(PyTorchStreamReader& zip, uint64_t file_size, const std::string& name)
      : zip_(zip), unread_bytes_(file_size), name_(name) {}

  TensorFile read(const std::string& key) {
    if (!zip_.hasRecord("data.pkl")) fail("is a zip file, but not one of torch.save");
    const uint64_t pickle_size = zip_.getRecordSize("data.pkl");
    if (pickle_size > longest_pickle) fail("its pickle is longer than 64 MB; expected a state dict");
    const Pickle pickle(record("data.pkl", pickle_size), name_);
    const bool big_endian = is_big_endian();
    return tensors_of(find_state_dict(pickle.root(), key, name_),
                      TensorMaker(name_, big_endian, [this](const std::string& storage, uint64_t bytes) {
                        return read_storage(storage, bytes);
                      }));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + ": " + what); }

  /// torch.save does not compress: all records together are no longer than the file.
  void check_size(const std::string& record, uint64_t size) {
    if (zip_.getRecordSize(record) != size) fail("is damaged: its record " + record + " has the wrong length");
    if (size > unread_bytes_) fail("is compressed or damaged; expected a file as torch.save writes it");
    unread_bytes_ -= size;
  }

  std::string record(const std::string& record_name, uint64_t size) {
    check_size(record_name, size);
    std::string bytes(size, '\0');
    if (size > 0) zip_.getRecord(record_name, bytes.data(), size);
    return bytes;
  }

  bool is_big_endian() {
    if (!zip_.hasRecord("byteorder")) return false;  // files of PyTorch before 2.1
    const std::string order = record("byteorder", zip_.getRecordSize("byteorder"));
    if (order != "little" && order != "big") fail("has an unknown byte order; expected little or big");
    return order == "big";
  }

  at::Tensor read_storage(const std::string& key, uint64_t bytes) {
    const std::string record_name = "data/" + key;
    check_size(record_name, bytes);
    at::Tensor storage = at::empty({static_cast<int64_t>(bytes)}, at::kByte);
    if (bytes > 0) zip_.getRecord(record_name, storage.data_ptr(), bytes);
    return storage;
  }

  PyTorchStreamReader& zip_;
  uint64_t unread_bytes_;
  std::string name_;
};

/// Five pickles - a number that marks the format, its version, the machine's properties, the object, the storages' keys
/// - and for each key the number of its elements and their bytes.
class LegacyReader {
 public:
  LegacyReader(const SeekableFile& file, std::string name) : file_(file), size_(file.size()), name_(std::move(name)) {}

  TensorFile read(const std::string& key) {
    constexpr uint64_t longest_head = 1 << 16;
    next_pickle(longest_head);
    next_pickle(longest_head);
    const bool big_endian = is_big_endian(*next_pickle(longest_head));
    const auto object = next_pickle(longest_pickle);
    find_storages(*object, *next_pickle(longest_pickle));
    return tensors_of(find_state_dict(object->root(), key, name_),
                      TensorMaker(name_, big_endian, [this](const std::string& storage, uint64_t bytes) {
                        return read_storage(storage, bytes);
                      }));
  }

 private:
  struct Place {
    uint64_t begin = 0;
    uint64_t bytes = 0;
  };

  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + ": " + what); }

  void read_bytes(uint64_t begin, void* bytes, uint64_t count) {
    if (begin > size_ || count > size_ - begin) fail("is truncated; expected a whole file of torch.save");
    if (file_.read(begin, bytes, count) != count) fail("could not be read to its end");
  }

  std::unique_ptr<Pickle> next_pickle(uint64_t longest) {
    std::string bytes(std::min(longest, size_ - position_), '\0');
    read_bytes(position_, bytes.data(), bytes.size());
    auto pickle = std::make_unique<Pickle>(std::move(bytes), name_);
    position_ += pickle->size();
    return pickle;
  }

  static bool is_big_endian(const Pickle& machine) {
    const auto& items = machine.root().items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i]->text == "little_endian") return items[i + 1]->integer == 0;
    }
    return false;
  }

  /// The number of elements stands before the bytes, their type in the object alone.
  void find_storages(const Pickle& object, const Pickle& keys) {
    std::map<std::string, uint64_t, std::less<>> widths;
    for (const PickleValue& value : object.values()) {
      if (const auto id = storage_id(value)) {
        const bool is_known = id->element != nullptr;
        widths[id->key] = is_known ? c10::elementSize(id->element->type) : width_of_other(id->type);
      }
    }
    for (const PickleValue* key : keys.root().items) {
      const auto width = widths.find(key->text);
      if (width == widths.end()) fail("is damaged: it has a storage that no tensor uses");
      uint64_t elements = 0;
      read_bytes(position_, &elements, sizeof elements);
      position_ += sizeof elements;
      Place place{position_, 0};
      if (__builtin_mul_overflow(elements, width->second, &place.bytes) || place.bytes > size_ - position_) {
        fail("is truncated or damaged: a storage reaches beyond its end");
      }
      position_ += place.bytes;
      places_[std::string(key->text)] = place;
    }
  }

  /// Of the elements of quantized tensors, which are not read.
  static uint64_t width_of_other(std::string_view type) { return type == "torch.QInt32Storage" ? 4 : 1; }

  at::Tensor read_storage(const std::string& key, uint64_t bytes) {
    const auto place = places_.find(key);
    if (place == places_.end() || place->second.bytes != bytes) {
      fail("is damaged: its storage " + key + " is absent or has the wrong length");
    }
    at::Tensor storage = at::empty({static_cast<int64_t>(bytes)}, at::kByte);
    if (bytes > 0) read_bytes(place->second.begin, storage.data_ptr(), bytes);
    return storage;
  }

  const SeekableFile& file_;
  uint64_t size_;
  std::string name_;
  uint64_t position_ = 0;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace

bool looks_like_legacy_torch_save(const std::string& start) {
  // A pickle of protocol 2 that begins with the number 0x1950a86a20f9469cfc6c.
  return start.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
}

TensorFile read_torch_save_file(const SeekableFile& file, const std::string& name, const std::string& key) {
  const auto source = std::make_shared<ZipSource>(file);
  try {
    PyTorchStreamReader zip(source);
    return ZipReader(zip, file.size(), name).read(key);
  } catch (const c10::Error& error) {
    source->rethrow_failure();
    if (memory_shortage(error)) throw;
    throw UserError(name + ": is truncated or damaged; expected a whole zip file of torch.save");
  }
}

TensorFile read_legacy_torch_save_file(const SeekableFile& file, const std::string& name, const std::string& key) {
  return LegacyReader(file, name).read(key);
}

}  // namespace mma::examples
