#include "training/data/data_files.hpp"

#include <ATen/ops/from_blob.h>
#include <zlib.h>

#include <algorithm>
#include <new>
#include <system_error>

#include "support/files/file_contents.hpp"
#include "support/files/paths.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

bool is_gzip(const Bytes& bytes) { return bytes.size() > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

/// The streams that a gzip file holds one after another, as one. What follows them is left alone, as gzip does.
class Inflation {
 public:
  Inflation(Bytes packed, const fs::path& path) : packed_(std::move(packed)), path_(path) {
    constexpr int gzip_with_largest_window = 16 + 15;
    if (inflateInit2(&zlib_, gzip_with_largest_window) != Z_OK) throw std::bad_alloc();
    zlib_.next_in = packed_.data();
    zlib_.avail_in = static_cast<unsigned>(packed_.size());  // at most most_bytes_of_file
  }
  Inflation(const Inflation&) = delete;
  Inflation& operator=(const Inflation&) = delete;
  ~Inflation() { inflateEnd(&zlib_); }

  /// The next bytes, at most `count`; none at the end.
  Bytes next(size_t count) {
    Bytes bytes(count);
    zlib_.next_out = bytes.data();
    zlib_.avail_out = static_cast<unsigned>(count);
    while (zlib_.avail_out > 0 && !has_ended_) inflate_some();
    bytes.resize(count - zlib_.avail_out);
    return bytes;
  }

 private:
  void inflate_some() {
    const int code = inflate(&zlib_, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      has_ended_ = zlib_.avail_in < 2 || zlib_.next_in[0] != 0x1f || zlib_.next_in[1] != 0x8b;
      if (!has_ended_) inflateReset(&zlib_);
    } else if (code == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (code != Z_OK) {
      const char* why = code == Z_BUF_ERROR    ? "unexpected end of file"
                        : zlib_.msg != nullptr ? zlib_.msg
                                               : "no gzip file";
      throw UserError(quoted(path_) + " cannot be read to its end: " + why);
    }
  }

  Bytes packed_;
  fs::path path_;
  z_stream zlib_ = {};
  bool has_ended_ = false;
};

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
      if (is_file(each / name)) {
        return each / name;
      }
    }
  }
  const std::string inside = inner_folders.empty() ? "" : " or its folder " + joined(inner_folders, " or ");
  throw UserError(dataset + ": found no " + joined(names, " or ") + " in " + quoted(folder) + inside);
}

Bytes content_of(const fs::path& path, size_t most) {
  constexpr size_t chunk = size_t{1} << 16;
  Bytes packed = bytes_of(path, most);
  if (!is_gzip(packed)) return packed;
  Inflation inflation(std::move(packed), path);
  Bytes bytes;
  for (Bytes next = inflation.next(chunk); !next.empty(); next = inflation.next(chunk)) {
    if (bytes.size() + next.size() > most) {
      throw UserError(quoted(path) + " holds more than " + std::to_string(most) + " bytes, unpacked");
    }
    bytes.insert(bytes.end(), next.begin(), next.end());
  }
  return bytes;
}

Bytes beginning_of(const fs::path& path, size_t count) {
  constexpr size_t longest_gzip_header = size_t{1} << 17;  // with a name, a comment and what else it may carry
  const SeekableFile file(path);
  const std::string start = file.read(0, count + longest_gzip_header);
  Bytes bytes(start.begin(), start.end());
  if (is_gzip(bytes)) return Inflation(std::move(bytes), path).next(count);
  bytes.resize(std::min(bytes.size(), count));
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
