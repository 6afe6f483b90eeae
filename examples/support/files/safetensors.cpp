#include "support/files/safetensors.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/ne.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "support/files/element_type.hpp"
#include "support/files/json.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors holds little-endian numbers, copied as they are");

using Json = nlohmann::ordered_json;  // to write; it looks a name up by going through all of them
using Header = nlohmann::json;

constexpr uint64_t length_bytes = 8;
constexpr uint64_t longest_header = 100'000'000;  // the format's own limit
constexpr const char* metadata_key = "__metadata__";

uint64_t header_length(const std::string& start) {
  uint64_t length = 0;
  std::memcpy(&length, start.data(), length_bytes);
  return length;
}

/// Where a tensor lies, in bytes after the header.
struct HeaderEntry {
  std::string name;
  std::string type;
  const ElementType* element = nullptr;  ///< nullptr: of a type that is not known here
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class Reader {
 public:
  Reader(const SeekableFile& file, const std::string& name) : file_(file), size_(file.size()), name_(name) {}

  TensorFile read() {
    TensorFile file;
    std::vector<HeaderEntry> entries;
    const Header description = header();
    for (const std::string& key : names_) {
      if (key == metadata_key) {
        file.metadata = metadata(description[key]);
      } else {
        entries.push_back(entry(key, description[key]));
      }
    }
    check_places(entries);
    for (const HeaderEntry& entry : entries) {
      if (entry.element != nullptr) {
        file.tensors.emplace_back(entry.name, tensor(entry));
      } else {
        file.skipped.emplace_back(entry.name, "elements of the type " + entry.type);
      }
    }
    return file;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + ": " + what); }

  void read_bytes(uint64_t position, void* bytes, uint64_t count) const {
    if (file_.read(position, bytes, count) != count) fail("could not be read to its end");
  }

  Header header() {
    std::string start(length_bytes, '\0');
    read_bytes(0, start.data(), length_bytes);
    const uint64_t length = header_length(start);
    if (length > longest_header) fail("its safetensors header is longer than the 100 MB that the format allows");
    if (length > size_ - length_bytes) {
      fail("is truncated: its safetensors header has " + std::to_string(length) + " bytes, the file only " +
           std::to_string(size_));
    }
    data_start_ = length_bytes + length;
    std::string text(length, '\0');
    read_bytes(length_bytes, text.data(), length);
    Header json = parse(text);
    if (!json.is_object()) fail("its safetensors header is not a JSON object");
    return json;
  }

  /// JSON itself lets a name occur twice; the format does not.
  Header parse(const std::string& text) {
    constexpr int64_t deepest = 4;
    std::set<std::string> known;
    const auto take = [&](const std::string& name) {
      if (!known.insert(name).second) fail("its safetensors header names the tensor '" + name + "' twice");
      names_.push_back(name);
    };
    try {
      return parse_json(text, {deepest, take});
    } catch (const BadJson& error) {
      fail(error.about("its safetensors header"));
    }
  }

  std::map<std::string, std::string> metadata(const Header& value) const {
    try {
      return value.get<std::map<std::string, std::string>>();
    } catch (const Header::type_error&) {
      fail("its safetensors __metadata__ is not a map of strings");
    }
  }

  HeaderEntry entry(const std::string& key, const Header& value) const {
    HeaderEntry entry;
    entry.name = key;
    const std::string tensor = "its tensor '" + key + "' ";
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() || !value.contains("shape") ||
        !is_list_of_sizes(value["shape"]) || !value.contains("data_offsets") ||
        !is_list_of_sizes(value["data_offsets"]) || value["data_offsets"].size() != 2) {
      fail(tensor + "is not described by dtype, shape and data_offsets");
    }
    entry.type = value["dtype"];
    entry.element = element_type_in_safetensors(entry.type);
    value["shape"].get_to(entry.shape);
    if (entry.shape.size() > most_dimensions) fail(tensor + "has more than 64 dimensions");
    entry.begin = value["data_offsets"][0];
    entry.end = value["data_offsets"][1];
    if (entry.begin > entry.end || entry.end > size_ - data_start_) {
      fail("is truncated or damaged: " + tensor + "lies outside the file");
    }
    if (entry.element != nullptr && entry.end - entry.begin != bytes_of(entry))
      fail(tensor + "has a shape that does not match its length in bytes");
    return entry;
  }

  static bool is_list_of_sizes(const Header& value) {
    const auto is_size = [](const Header& size) {
      return size.is_number_unsigned() && size.get<uint64_t>() <= uint64_t{INT64_MAX};
    };
    return value.is_array() && std::ranges::all_of(value, is_size);
  }

  uint64_t bytes_of(const HeaderEntry& entry) const {
    uint64_t bytes = c10::elementSize(entry.element->type);
    uint64_t without_zeros = bytes;  // the strides of an empty tensor must not overflow either
    for (const int64_t size : entry.shape) {
      bytes *= static_cast<uint64_t>(size);
      if (__builtin_mul_overflow(without_zeros, static_cast<uint64_t>(std::max<int64_t>(size, 1)), &without_zeros) ||
          without_zeros > uint64_t{INT64_MAX}) {
        fail("its tensor '" + entry.name + "' has an impossibly large shape");
      }
    }
    return bytes;
  }

  /// The tensors fill the rest of the file, one after the other.
  void check_places(const std::vector<HeaderEntry>& entries) const {
    std::vector<std::pair<uint64_t, uint64_t>> places;
    for (const HeaderEntry& entry : entries) places.emplace_back(entry.begin, entry.end);
    std::ranges::sort(places);
    uint64_t end = 0;
    for (const auto& [begin, next] : places) {
      if (begin != end) fail("is damaged: its tensors overlap or leave a gap");
      end = next;
    }
    if (end != size_ - data_start_) fail("is damaged: bytes follow after its last tensor");
  }

  at::Tensor tensor(const HeaderEntry& entry) {
    const bool is_bool = entry.element->type == c10::ScalarType::Bool;
    at::Tensor tensor = at::empty(entry.shape, is_bool ? c10::ScalarType::Byte : entry.element->type);
    read_bytes(data_start_ + entry.begin, tensor.data_ptr(), entry.end - entry.begin);
    return is_bool ? at::ne(tensor, 0) : tensor;  // a byte that is neither 0 nor 1 is no bool of C++
  }

  const SeekableFile& file_;
  uint64_t size_;
  std::string name_;
  uint64_t data_start_ = 0;
  std::vector<std::string> names_;  // in the header's order
};

struct Output {
  std::string name;
  at::Tensor tensor;  ///< contiguous, on the CPU
  uint64_t begin = 0;
};

/// Larger elements first, so that every tensor is aligned to its element, as readers that map the file need.
std::vector<const Output*> place(std::vector<Output>& outputs) {
  std::vector<Output*> order;
  for (Output& output : outputs) order.push_back(&output);
  std::ranges::stable_sort(order, std::greater<>(), [](const Output* output) { return output->tensor.element_size(); });
  uint64_t end = 0;
  for (Output* output : order) {
    output->begin = end;
    end += output->tensor.nbytes();
  }
  return {order.begin(), order.end()};
}

std::string header_text(const std::vector<Output>& outputs, const std::map<std::string, std::string>& metadata) try {
  Json header = Json::object();
  if (!metadata.empty()) header[metadata_key] = metadata;
  for (const auto& [name, tensor, begin] : outputs) {
    const ElementType* element = element_type_of(tensor.scalar_type());
    if (element == nullptr || element->safetensors.empty())
      throw UserError("tensor '" + name + "' has an element type that safetensors does not know");
    if (header.contains(name) || name == metadata_key)
      throw UserError("the tensor name '" + name + "' is already taken");
    header[name] = {{"dtype", element->safetensors},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begin, begin + tensor.nbytes()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data start at a multiple of 8
  return text;
} catch (const Json::type_error&) {
  throw UserError("a tensor's name or the metadata is not UTF-8, which safetensors requires");
}

}  // namespace

bool looks_like_safetensors(const std::string& start) {
  return start.size() > length_bytes && start[length_bytes] == '{' && header_length(start) <= longest_header;
}

TensorFile read_safetensors(const SeekableFile& file, const std::string& name) { return Reader(file, name).read(); }

void write_safetensors(std::ostream& stream, const TensorFile& file) {
  std::vector<Output> outputs;
  for (const auto& [name, tensor] : file.tensors) {
    outputs.push_back({name, tensor.detach().to(c10::Device(c10::kCPU)).contiguous()});
  }
  const std::vector<const Output*> order = place(outputs);
  const std::string header = header_text(outputs, file.metadata);
  const uint64_t length = header.size();
  stream.write(reinterpret_cast<const char*>(&length), length_bytes);
  stream.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const Output* output : order) {
    stream.write(static_cast<const char*>(output->tensor.data_ptr()),
                 static_cast<std::streamsize>(output->tensor.nbytes()));
  }
}

}  // namespace mma::examples
