#include "training/data/data_files.hpp"

#include <ATen/ops/from_blob.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;
using GzFile = std::unique_ptr<gzFile_s, int (*)(gzFile)>;

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

GzFile opened(const fs::path& path) {
  GzFile file(gzopen(path.c_str(), "rb"), gzclose_r);
  if (!file) {
    throw UserError(quoted(path) + " cannot be opened: " + std::strerror(errno));
  }
  return file;
}

void check_read(const GzFile& file, const fs::path& path) {
  int code = Z_OK;
  gzerror(file.get(), &code);
  if (code != Z_OK) {  // a gzip file that was cut has no failing read, only this
    throw UserError(quoted(path) + " cannot be read to its end: " + reason(file.get(), path));
  }
}

}  // namespace

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

fs::path Place::find(const std::vector<std::string>& names) const {
  std::vector<fs::path> folders = {folder};
  for (const std::string& inner : inner_folders) {
    folders.push_back(folder / inner);
  }
  for (const fs::path& each : folders) {
    for (const std::string& name : names) {
      std::error_code ignored;
      if (fs::is_regular_file(each / name, ignored)) {
        return each / name;
      }
    }
  }
  const std::string inside = inner_folders.empty() ? "" : " or its folder " + joined(inner_folders, " or ");
  throw UserError(dataset + ": found no " + joined(names, " or ") + " in " + quoted(folder) + inside);
}

Bytes content_of(const fs::path& path, size_t most) {
  constexpr unsigned chunk = 1U << 20;
  const GzFile file = opened(path);
  const auto refuse_if_above = [&](size_t size) {
    if (size > most) {
      throw UserError(quoted(path) + " holds more than " + std::to_string(most) + " bytes, too many for its data set");
    }
  };
  std::error_code ignored;
  const uintmax_t packed = fs::file_size(path, ignored);
  refuse_if_above(ignored ? 0 : packed);
  Bytes bytes;
  bytes.reserve((ignored ? 0 : packed) + chunk);
  int got = 1;
  while (got > 0) {
    const size_t size = bytes.size();
    bytes.resize(size + chunk);
    got = gzread(file.get(), bytes.data() + size, chunk);
    bytes.resize(size + static_cast<size_t>(std::max(got, 0)));
    refuse_if_above(bytes.size());
  }
  check_read(file, path);
  return bytes;
}

Bytes beginning_of(const fs::path& path, size_t count) {
  const GzFile file = opened(path);
  Bytes bytes(count);
  const int got = gzread(file.get(), bytes.data(), static_cast<unsigned>(count));
  bytes.resize(static_cast<size_t>(std::max(got, 0)));
  check_read(file, path);
  return bytes;
}

void check_labels(const at::Tensor& labels, int64_t classes, const fs::path& path) {
  const int64_t* label = labels.const_data_ptr<int64_t>();
  const auto* bad =
      std::find_if(label, label + labels.numel(), [=](int64_t value) { return value < 0 || value >= classes; });
  if (bad != label + labels.numel()) {
    throw UserError(quoted(path) + " gives image " + std::to_string(bad - label) + " the label " +
                    std::to_string(*bad) + ", expected one of 0 to " + std::to_string(classes - 1));
  }
}

at::Tensor view_of(Bytes& bytes, size_t offset, at::IntArrayRef shape) {
  return at::from_blob(bytes.data() + offset, shape, at::TensorOptions(at::kByte));
}

}  // namespace mma::examples
