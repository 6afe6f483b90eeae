#include "tensor_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "atomic_file.hpp"
#include "error.hpp"
#include "safetensors.hpp"
#include "torch_save_file.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

std::ifstream open_regular_file(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
    throw UserError(path.string() + ": is not a file; expected a file of weights");
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw UserError("cannot read " + path.string() + ": " + std::strerror(errno));
  return stream;
}

std::string first_bytes(std::ifstream& stream) {
  std::string bytes(16, '\0');
  stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(stream.gcount()));
  stream.clear();
  stream.seekg(0);
  return bytes;
}

TensorFile read_any(const fs::path& path) {
  std::ifstream stream = open_regular_file(path);
  const std::string start = first_bytes(stream);
  if (start.starts_with("PK\x03\x04")) return read_torch_save_file(path);
  if (looks_like_safetensors(start)) return read_safetensors(stream, fs::file_size(path), path.string());
  if (start.empty()) throw UserError(path.string() + ": is empty; expected a file of weights");
  if (looks_like_old_torch_save(start)) {
    throw UserError(path.string() +
                    ": is in the format of PyTorch before 1.6; expected one saved again by a newer torch.save");
  }
  throw UserError(path.string() + ": is neither a safetensors file nor a file of Python's torch.save");
}

/// Names go into tables and JSON.
bool is_printable(const std::string& name) {
  try {
    static_cast<void>(nlohmann::json(name).dump());
  } catch (const nlohmann::json::type_error&) {  // not UTF-8
    return false;
  }
  return std::ranges::none_of(name, [](unsigned char character) { return character < ' '; });
}

}  // namespace

const at::Tensor* TensorFile::find(const std::string& name) const {
  const auto found = std::ranges::find(tensors, name, &std::pair<std::string, at::Tensor>::first);
  return found == tensors.end() ? nullptr : &found->second;
}

TensorFile read_tensor_file(const fs::path& path) {
  TensorFile file = read_any(path);
  for (const auto& [name, tensor] : file.tensors) {
    if (!is_printable(name)) {
      throw UserError(path.string() + ": names a tensor with bytes that are not printable text; expected UTF-8");
    }
  }
  return file;
}

void write_tensor_file(const fs::path& path, const TensorFile& file) {
  write_atomically(path, [&](std::ostream& stream) { write_safetensors(stream, file); });
}

}  // namespace mma::examples
