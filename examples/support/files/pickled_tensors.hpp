// Tensors in the pickles of PyTorch and LibTorch: which values are one, and making them from their storage.
// The calls that would make them in Python are read, never made.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/files/element_type.hpp"
#include "support/files/unpickler.hpp"

namespace mma::examples {

/// A value that is a tensor: what its making was called with, or why it cannot be read.
struct PickledTensor {
  std::string unusual;  ///< "a sparse tensor"; empty: can be read
  const PickleValue* storage = nullptr;
  const PickleValue* offset = nullptr;
  const PickleValue* sizes = nullptr;
  const PickleValue* strides = nullptr;
  const PickleValue* type = nullptr;  ///< of the elements, where the storage does not say it

  int64_t dimensions() const;  ///< 0 for one that cannot be read
};

/// std::nullopt when the value is no tensor. A parameter, or a tensor of a subclass or with attributes, is the tensor
/// in it.
std::optional<PickledTensor> pickled_tensor(const PickleValue& value);

/// Text of Python 3, or of Python 2.
bool is_text(const PickleValue& value);

/// The persistent id ('storage', type, key, location, number of elements, ...) of a storage.
struct StorageId {
  const ElementType* element = nullptr;  ///< nullptr: bytes of no type, or of one that is unknown
  std::string type;                      ///< its Python name
  std::string key;
  int64_t elements = 0;  ///< bytes, of one without type
  int64_t first = 0;     ///< the element with which a view of it begins
  bool is_untyped() const { return type == "torch.storage.UntypedStorage" || type == "torch.UntypedStorage"; }
};

/// std::nullopt for a value that is none.
std::optional<StorageId> storage_id(const PickleValue& value);

/// Makes the tensors of a file. Each storage is read once: tensors that shared memory share it again.
class TensorMaker {
 public:
  /// Gives a storage of so many bytes, or throws UserError when the file does not have it.
  using ReadStorage = std::function<at::Tensor(const std::string& key, uint64_t bytes)>;

  /// `name`: the file's, with which sentences begin. `big_endian`: the byte order of the file.
  TensorMaker(std::string name, bool big_endian, ReadStorage read)
      : name_(std::move(name)), big_endian_(big_endian), read_(std::move(read)) {}

  /// Throws UserError for one that is damaged. One that is sound but of no kind known here is undefined; `why` says so.
  at::Tensor make(const std::string& tensor, const PickledTensor& pickled, std::string& why);

 private:
  [[noreturn]] void damaged(const std::string& tensor, const std::string& what) const;
  std::vector<int64_t> integers(const std::string& tensor, const PickleValue& tuple) const;
  void check_bounds(const std::string& tensor, int64_t available, int64_t offset, const std::vector<int64_t>& sizes,
                    const std::vector<int64_t>& strides) const;
  at::Tensor storage(const std::string& tensor, const StorageId& id, const ElementType& element);

  std::string name_;
  bool big_endian_;
  ReadStorage read_;
  std::map<std::string, at::Tensor> storages_;
};

}  // namespace mma::examples
