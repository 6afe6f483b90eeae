#include "support/files/tensor_file.hpp"

#include <algorithm>
#include <set>

#include "support/files/atomic_file.hpp"
#include "support/files/file_contents.hpp"
#include "support/files/json.hpp"
#include "support/files/paths.hpp"
#include "support/files/safetensors.hpp"
#include "support/files/torch_save_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

SeekableFile open_regular_file(const fs::path& path) {
  if (is_there(path) && !is_file(path)) {
    throw UserError(path.string() + ": is not a file; expected a file of weights");
  }
  return SeekableFile(path);
}

/// Safetensors has no dictionaries, but names with dots.
void take_under(TensorFile& file, const std::string& key, const fs::path& path) {
  const std::string prefix = key + '.';
  const auto keep = [&](auto& named) {
    std::erase_if(named, [&](const auto& entry) { return !entry.first.starts_with(prefix); });
    for (auto& entry : named) entry.first.erase(0, prefix.size());
  };
  keep(file.tensors);
  keep(file.skipped);
  if (file.tensors.empty())
    throw UserError(path.string() + ": --key " + key + ": no tensor's name begins with " + prefix);
}

/// What DataParallel and torch.compile put before all names, in any order.
void drop_wrappers(TensorFile& file) {
  for (int wraps = 0; wraps < 8; ++wraps) {
    size_t dropped = 0;
    for (const std::string_view prefix : {"module.", "_orig_mod."}) {
      const auto has_it = [&](const auto& entry) { return entry.first.starts_with(prefix); };
      if (std::ranges::all_of(file.tensors, has_it) && std::ranges::all_of(file.skipped, has_it))
        dropped = prefix.size();
    }
    if (dropped == 0 || file.tensors.empty()) return;
    for (auto& entry : file.tensors) entry.first.erase(0, dropped);
    for (auto& entry : file.skipped) entry.first.erase(0, dropped);
  }
}

/// Protocol buffers: field 1, ir_version, then field 2, producer_name, or 7, graph.
bool looks_like_onnx(const fs::path& path, const std::string& start) {
  const bool begins_so =
      start.size() > 2 && start[0] == 0x08 && start[1] > 0 && start[1] < 64 && (start[2] == 0x12 || start[2] == 0x3a);
  return begins_so || path.extension() == ".onnx";
}

/// {"weight_map": {tensor: file}} of a model in several files; the files' names, "" when this is none.
std::string files_of_index(const fs::path& path) {
  constexpr uint64_t longest = 64 << 20;
  if (fs::file_size(path) > longest) return "";
  nlohmann::json index;
  try {
    index = parse_json(contents_of(path, longest));
  } catch (const BadJson&) {
    return "";
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) return "";
  std::set<std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (file.is_string()) files.insert(file.get<std::string>());
  }
  std::string text;
  for (const std::string& file : files) {
    if (text.size() < 200) text += (text.empty() ? "" : ", ") + file;
  }
  return text;
}

[[noreturn]] void refuse(const fs::path& path, const std::string& start) {
  const auto fail = [&](const std::string& what) { throw UserError(path.string() + ": " + what); };
  if (start.empty()) fail("is empty; expected a file of weights");
  if (start.starts_with("version https://git-lfs.github.com/spec/")) {
    fail("is a pointer of Git LFS and not the file itself; `git lfs pull` fetches it");
  }
  if (start.front() == '{') {
    const std::string files = files_of_index(path);
    if (!files.empty()) fail("is the index of a model in several files; expected one of them: " + files);
  }
  if (looks_like_onnx(path, start)) {
    fail("is an ONNX model; expected the weights that it was exported from: torch.save(model.state_dict(), ...)");
  }
  throw UserError(path.string() + ": is neither a safetensors file nor a file of torch.save");
}

TensorFile read_any(const fs::path& path, const std::string& key) {
  const SeekableFile source = open_regular_file(path);
  const std::string start = source.read(0, 64);
  if (start.starts_with("PK\x03\x04")) return read_torch_save_file(source, path.string(), key);
  if (looks_like_legacy_torch_save(start)) return read_legacy_torch_save_file(source, path.string(), key);
  if (!looks_like_safetensors(start)) refuse(path, start);
  TensorFile file = read_safetensors(source, path.string());
  if (!key.empty() && is_checkpoint(file)) {
    throw UserError(path.string() + ": --key " + key + ": is a checkpoint of mma-train, which needs no key");
  }
  if (!key.empty() && key != ".") take_under(file, key, path);
  return file;
}

/// A file that is too large for this machine is not damaged.
TensorFile read_as_far_as_memory_goes(const fs::path& path, const std::string& key) {
  try {
    return read_any(path, key);
  } catch (const std::exception& error) {
    if (const auto shortage = memory_shortage(error)) throw UserError(path.string() + ": " + *shortage);
    throw;
  }
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

TensorFile read_tensor_file(const fs::path& path, const std::string& key) {
  TensorFile file = read_as_far_as_memory_goes(path, key);
  const auto check = [&](const auto& entry) {
    if (!is_printable(entry.first)) {
      throw UserError(path.string() + ": names a tensor with bytes that are not printable text; expected UTF-8");
    }
  };
  std::ranges::for_each(file.tensors, check);
  std::ranges::for_each(file.skipped, check);
  drop_wrappers(file);
  return file;
}

void write_tensor_file(const fs::path& path, const TensorFile& file) {
  write_atomically(path, [&](std::ostream& stream) { write_safetensors(stream, file); });
}

}  // namespace mma::examples
