#include "torch_save_file.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/ne.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <tuple>

#include "element_type.hpp"
#include "error.hpp"
#include "unpickler.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;
using caffe2::serialize::PyTorchStreamReader;

constexpr size_t longest_pickle = 64 << 20;
constexpr int64_t most_expanded_elements = 1 << 20;

/// The Python names that a file of torch.save may refer to: tensors, and what checkpoints hold beside them.
const std::set<std::string, std::less<>> allowed_names = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.DoubleStorage",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.CharStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
    // Not tensors: read over.
    "argparse.Namespace",
    "__builtin__.set",
    "builtins.set",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "torch.Size",
    "torch.device",
};

bool is_call_of(const PickleValue& value, std::string_view name, size_t arguments) {
  return value.is(Kind::Object) && value.text == name && value.arguments->items.size() >= arguments;
}

bool is_dictionary(const PickleValue& value) {
  return value.is(Kind::Dict) || is_call_of(value, "collections.OrderedDict", 0);
}

bool is_parameter(const PickleValue& value) {
  return is_call_of(value, "torch._utils._rebuild_parameter", 1) ||
         is_call_of(value, "torch._utils._rebuild_parameter_with_state", 1);
}

/// The call that makes a tensor, also when it is wrapped in one that makes a parameter; nullptr when it is neither.
const PickleValue* tensor_call(const PickleValue& value) {
  const PickleValue& call = is_parameter(value) ? *value.arguments->items[0] : value;
  return is_call_of(call, "torch._utils._rebuild_tensor_v2", 4) ? &call : nullptr;
}

bool holds_tensors(const PickleValue& dictionary) {
  for (size_t i = 1; i < dictionary.items.size(); i += 2) {
    if (tensor_call(*dictionary.items[i]) != nullptr) return true;
  }
  return false;
}

/// The dictionary of a checkpoint that holds the state dict, or the state dict itself; nullptr when there is neither.
const PickleValue* find_state_dict(const PickleValue& root) {
  if (!is_dictionary(root)) return nullptr;
  for (const std::string_view name : {"state_dict", "model", "net", "model_state_dict"}) {
    for (size_t i = 0; i < root.items.size(); i += 2) {
      const auto& [key, value] = std::tie(*root.items[i], *root.items[i + 1]);
      if (key.is(Kind::String) && key.text == name && is_dictionary(value) && holds_tensors(value)) return &value;
    }
  }
  return holds_tensors(root) ? &root : nullptr;
}

class Reader {
 public:
  Reader(PyTorchStreamReader& zip, uint64_t file_size, const std::string& name)
      : zip_(zip), unread_bytes_(file_size), name_(name) {}

  TensorFile read() {
    if (zip_.hasRecord("constants.pkl")) {
      fail("is a TorchScript archive; expected torch.save(model.state_dict(), ...)");
    }
    if (!zip_.hasRecord("data.pkl")) fail("is a zip file, but not one of Python's torch.save");
    const uint64_t pickle_size = zip_.getRecordSize("data.pkl");
    if (pickle_size > longest_pickle) fail("its pickle is longer than 64 MB; expected a state dict");
    const Pickle pickle(record("data.pkl", pickle_size), allowed_names, name_);
    big_endian_ = is_big_endian();
    const PickleValue* state_dict = find_state_dict(pickle.root());
    if (state_dict == nullptr) fail("holds no tensors by name; expected torch.save(model.state_dict(), ...)");
    return tensors(*state_dict);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + ": " + what); }
  [[noreturn]] void damaged(const std::string& tensor, const std::string& why) const {
    fail("is damaged: its tensor '" + tensor + "' " + why);
  }

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

  TensorFile tensors(const PickleValue& state_dict) {
    TensorFile file;
    std::set<std::string, std::less<>> names;
    for (size_t i = 0; i < state_dict.items.size(); i += 2) {
      const auto& [key, value] = std::tie(*state_dict.items[i], *state_dict.items[i + 1]);
      const PickleValue* call = tensor_call(value);
      if (call == nullptr || !key.is(Kind::String)) continue;
      std::string name(key.text.starts_with("module.") ? key.text.substr(7) : key.text);
      if (!names.insert(name).second) fail("holds the tensor '" + name + "' twice");
      at::Tensor strided = tensor(name, call->arguments->items);
      file.tensors.emplace_back(std::move(name), std::move(strided));
    }
    return file;
  }

  /// _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks[, metadata])
  at::Tensor tensor(const std::string& name, const std::vector<const PickleValue*>& arguments) {
    const at::Tensor storage = this->storage(name, *arguments[0]);
    if (!arguments[1]->is(Kind::Int)) damaged(name, "has no offset");
    if (arguments.size() > 6 && !arguments[6]->items.empty()) fail("its tensor '" + name + "' is not a plain one");
    const int64_t offset = arguments[1]->integer;
    const std::vector<int64_t> sizes = integers(name, *arguments[2]);
    const std::vector<int64_t> strides = integers(name, *arguments[3]);
    if (sizes.size() != strides.size()) damaged(name, "has not one stride for each size");
    check_bounds(name, storage.numel(), offset, sizes, strides);
    return storage.as_strided(sizes, strides, offset);
  }

  std::vector<int64_t> integers(const std::string& name, const PickleValue& tuple) const {
    // torch.Size((2, 3)) is a call with the tuple as its argument.
    const PickleValue& items = is_call_of(tuple, "torch.Size", 1) ? *tuple.arguments->items[0] : tuple;
    std::vector<int64_t> result;
    for (const PickleValue* item : items.items) {
      if (!item->is(Kind::Int) || item->integer < 0) damaged(name, "has a size or stride that is not a whole number");
      result.push_back(item->integer);
    }
    return result;
  }

  void check_bounds(const std::string& name, int64_t available, int64_t offset, const std::vector<int64_t>& sizes,
                    const std::vector<int64_t>& strides) const {
    int64_t elements = 1;
    int64_t last = offset;
    bool overflow = offset < 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      int64_t reach = 0;
      overflow |= __builtin_mul_overflow(elements, std::max<int64_t>(sizes[i], 1), &elements);
      overflow |= __builtin_mul_overflow(std::max<int64_t>(sizes[i] - 1, 0), strides[i], &reach);
      overflow |= __builtin_add_overflow(last, reach, &last);
    }
    const bool is_empty = std::ranges::find(sizes, 0) != sizes.end();
    if (overflow || offset > available || (!is_empty && last >= available)) damaged(name, "reaches beyond its data");
    if (elements > available && elements > most_expanded_elements) {
      fail("its tensor '" + name + "' repeats its data too often");
    }
  }

  /// The persistent id ('storage', type, key, location, number of elements).
  at::Tensor storage(const std::string& name, const PickleValue& value) {
    if (!value.is(Kind::Persistent) || value.arguments->items.size() < 5) damaged(name, "has no storage");
    const auto& id = value.arguments->items;
    if (id[0]->text != "storage" || !id[1]->is(Kind::Global) || !id[2]->is(Kind::String) || !id[4]->is(Kind::Int)) {
      damaged(name, "has no storage");
    }
    const ElementType* element = element_type_of_storage(id[1]->text);
    if (element == nullptr) damaged(name, "has no storage");
    return storage(name, std::string(id[2]->text), *element, id[4]->integer);
  }

  /// Each storage is read once: tensors that shared memory share it again.
  at::Tensor storage(const std::string& name, const std::string& key, const ElementType& element, int64_t elements) {
    if (const auto found = storages_.find(key); found != storages_.end()) {
      if (found->second.scalar_type() != element.type || found->second.numel() != elements) {
        damaged(name, "shares its data with one of another type");
      }
      return found->second;
    }
    const size_t width = c10::elementSize(element.type);
    uint64_t bytes = 0;
    if (elements < 0 || __builtin_mul_overflow(static_cast<uint64_t>(elements), width, &bytes)) {
      damaged(name, "has an impossible number of elements");
    }
    const bool is_bool = element.type == c10::ScalarType::Bool;
    const std::string record_name = "data/" + key;
    check_size(record_name, bytes);
    at::Tensor storage = at::empty({elements}, is_bool ? c10::ScalarType::Byte : element.type);
    if (bytes > 0) zip_.getRecord(record_name, storage.data_ptr(), bytes);
    if (big_endian_ != (std::endian::native == std::endian::big)) reverse_bytes(storage, width);
    if (is_bool) storage = at::ne(storage, 0);  // a byte that is neither 0 nor 1 is no bool of C++
    return storages_.emplace(key, storage).first->second;
  }

  static void reverse_bytes(const at::Tensor& storage, size_t width) {
    auto* byte = static_cast<uint8_t*>(storage.data_ptr());
    for (auto* const end = byte + storage.nbytes(); byte != end; byte += width) std::reverse(byte, byte + width);
  }

  PyTorchStreamReader& zip_;
  uint64_t unread_bytes_;
  std::string name_;
  bool big_endian_ = false;
  std::map<std::string, at::Tensor> storages_;
};

}  // namespace

bool looks_like_old_torch_save(const std::string& start) {
  // A pickle of protocol 2 that begins with the number 0x1950a86a20f9469cfc6c.
  return start.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
}

TensorFile read_torch_save_file(const std::filesystem::path& path) try {
  PyTorchStreamReader zip(path.string());
  return Reader(zip, std::filesystem::file_size(path), path.string()).read();
} catch (const c10::Error&) {
  throw UserError(path.string() + ": is truncated or damaged; expected a whole zip file of Python's torch.save");
}

}  // namespace mma::examples
