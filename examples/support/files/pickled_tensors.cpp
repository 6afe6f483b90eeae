#include "support/files/pickled_tensors.hpp"

#include <ATen/ops/ne.h>

#include <algorithm>
#include <bit>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;

constexpr int64_t most_expanded_elements = 1 << 20;

/// The name of a function and what it would be called with.
struct Call {
  std::string_view function;
  const std::vector<const PickleValue*>* arguments;
};

/// _rebuild_parameter[_with_state](tensor, ...)
bool is_parameter(const PickleValue& value) {
  return is_call_of(value, "torch._utils._rebuild_parameter", 1) ||
         is_call_of(value, "torch._utils._rebuild_parameter_with_state", 1);
}

/// _rebuild_from_type[_v2](function, type, arguments, state)
bool is_of_type(const PickleValue& value) {
  return (is_call_of(value, "torch._tensor._rebuild_from_type_v2", 3) ||
          is_call_of(value, "torch._tensor._rebuild_from_type", 3)) &&
         value.arguments->items[0]->is(Kind::Global) && value.arguments->items[2]->is(Kind::Tuple);
}

std::optional<Call> innermost_call(const PickleValue& value) {
  const PickleValue* call = &value;
  for (int wraps = 0; wraps < 4 && is_parameter(*call); ++wraps) call = call->arguments->items[0];
  if (!call->is(Kind::Object)) return std::nullopt;
  const auto& arguments = call->arguments->items;
  if (is_of_type(*call)) return Call{arguments[0]->text, &arguments[2]->items};
  return Call{call->text, &arguments};
}

bool is_marked(const std::vector<const PickleValue*>& arguments, size_t place) {
  return arguments.size() > place && !arguments[place]->items.empty();
}

std::string kind_of(std::string_view function) {
  if (function.find("sparse") != std::string_view::npos) return "a sparse tensor";
  if (function.find("qtensor") != std::string_view::npos) return "a quantized tensor";
  if (function.find("meta_tensor") != std::string_view::npos) return "a tensor without values";
  if (function.find("nested") != std::string_view::npos) return "a nested tensor";
  return "a tensor of an unknown kind";
}

void reverse_bytes(const at::Tensor& storage, size_t width) {
  auto* byte = static_cast<uint8_t*>(storage.data_ptr());
  for (auto* const end = byte + storage.nbytes(); byte != end; byte += width) std::reverse(byte, byte + width);
}

}  // namespace

bool is_text(const PickleValue& value) { return value.is(Kind::String) || value.is(Kind::Bytes); }

int64_t PickledTensor::dimensions() const {
  if (!unusual.empty()) return 0;
  const PickleValue& tuple = is_call_of(*sizes, "torch.Size", 1) ? *sizes->arguments->items[0] : *sizes;
  return std::ssize(tuple.items);
}

std::optional<PickledTensor> pickled_tensor(const PickleValue& value) {
  const std::optional<Call> call = innermost_call(value);
  if (!call) return std::nullopt;
  const auto& [function, arguments] = *call;
  constexpr std::string_view makers = "torch._utils._rebuild_";
  if (!function.starts_with(makers)) return std::nullopt;
  const std::string_view maker = function.substr(makers.size());
  // tensor_v2(storage, offset, sizes, strides, requires_grad, hooks[, metadata]), and without its end before that;
  // tensor_v3(storage, offset, sizes, strides, requires_grad, hooks, type[, metadata])
  const bool has_type = maker == "tensor_v3";
  const bool is_plain = maker == "tensor" || maker == "tensor_v2" || has_type;
  if (is_plain && arguments->size() < (has_type ? 7 : 4)) return std::nullopt;
  PickledTensor tensor;
  if (!is_plain) {
    if (maker == "parameter" || maker == "parameter_with_state") return std::nullopt;
    tensor.unusual = kind_of(maker);
  } else if (is_marked(*arguments, has_type ? 7 : 6)) {
    tensor.unusual = "a tensor that is stored conjugated or negated";
  } else {
    tensor.storage = (*arguments)[0];
    tensor.offset = (*arguments)[1];
    tensor.sizes = (*arguments)[2];
    tensor.strides = (*arguments)[3];
    if (has_type) tensor.type = (*arguments)[6];
  }
  return tensor;
}

std::optional<StorageId> storage_id(const PickleValue& value) {
  if (!value.is(Kind::Persistent) || value.arguments->items.size() < 5) return std::nullopt;
  const auto& id = value.arguments->items;
  if (id[0]->text != "storage" || !id[1]->is(Kind::Global) || !is_text(*id[2]) || !id[4]->is(Kind::Int)) {
    return std::nullopt;
  }
  StorageId result{element_type_of_storage(id[1]->text), std::string(id[1]->text), std::string(id[2]->text),
                   id[4]->integer, 0};
  if (id.size() > 5 && id[5]->items.size() == 3) result.first = id[5]->items[1]->integer;  // (key, offset, size)
  return result;
}

void TensorMaker::damaged(const std::string& tensor, const std::string& what) const {
  throw UserError(name_ + ": is damaged: its tensor '" + tensor + "' " + what);
}

at::Tensor TensorMaker::make(const std::string& tensor, const PickledTensor& pickled, std::string& why) {
  why = pickled.unusual;
  if (!why.empty()) return {};
  const std::optional<StorageId> id = storage_id(*pickled.storage);
  if (!id) damaged(tensor, "has no storage");
  const ElementType* element = pickled.type != nullptr ? element_type_in_python(pickled.type->text) : id->element;
  if (element == nullptr) {
    why = "elements of the type " + (pickled.type != nullptr ? std::string(pickled.type->text) : id->type);
    return {};
  }
  const at::Tensor elements = storage(tensor, *id, *element);
  if (!pickled.offset->is(Kind::Int)) damaged(tensor, "has no offset");
  const std::vector<int64_t> sizes = integers(tensor, *pickled.sizes);
  const std::vector<int64_t> strides = integers(tensor, *pickled.strides);
  if (sizes.size() != strides.size()) damaged(tensor, "has not one stride for each size");
  int64_t offset = 0;
  if (__builtin_add_overflow(id->first, pickled.offset->integer, &offset)) damaged(tensor, "reaches beyond its data");
  check_bounds(tensor, elements.numel(), offset, sizes, strides);
  return elements.as_strided(sizes, strides, offset);
}

std::vector<int64_t> TensorMaker::integers(const std::string& tensor, const PickleValue& tuple) const {
  // torch.Size((2, 3)) is a call with the tuple as its argument.
  const PickleValue& items = is_call_of(tuple, "torch.Size", 1) ? *tuple.arguments->items[0] : tuple;
  if (items.items.size() > most_dimensions) damaged(tensor, "has more than 64 dimensions");
  std::vector<int64_t> result;
  for (const PickleValue* item : items.items) {
    if (!item->is(Kind::Int) || item->integer < 0) damaged(tensor, "has a size or stride that is not a whole number");
    result.push_back(item->integer);
  }
  return result;
}

void TensorMaker::check_bounds(const std::string& tensor, int64_t available, int64_t offset,
                               const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) const {
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
  if (overflow || offset > available || (!is_empty && last >= available)) damaged(tensor, "reaches beyond its data");
  if (elements > available && elements > most_expanded_elements) damaged(tensor, "repeats its data too often");
}

at::Tensor TensorMaker::storage(const std::string& tensor, const StorageId& id, const ElementType& element) {
  const size_t width = c10::elementSize(element.type);
  uint64_t bytes = 0;
  if (id.elements < 0 ||
      __builtin_mul_overflow(static_cast<uint64_t>(id.elements), id.is_untyped() ? 1 : width, &bytes)) {
    damaged(tensor, "has an impossible number of elements");
  }
  if (bytes % width != 0) damaged(tensor, "has a storage that ends within an element");
  if (const auto found = storages_.find(id.key); found != storages_.end()) {
    if (found->second.scalar_type() != element.type || found->second.nbytes() != bytes) {
      damaged(tensor, "shares its data with one of another type");
    }
    return found->second;
  }
  const at::Tensor raw = read_(id.key, bytes);
  const size_t swapped = c10::isComplexType(element.type) ? width / 2 : width;
  if (big_endian_ != (std::endian::native == std::endian::big)) reverse_bytes(raw, swapped);
  // A byte that is neither 0 nor 1 is no bool of C++.
  const at::Tensor typed = element.type == c10::ScalarType::Bool ? at::ne(raw, 0) : raw.view(element.type);
  return storages_.emplace(id.key, typed).first->second;
}

}  // namespace mma::examples
