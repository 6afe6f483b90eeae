#include "tammes/points_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/StringUtil.h>

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <string_view>

#include "common/atomic_file.hpp"
#include "common/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view npy_magic = "\x93NUMPY";
constexpr int64_t most_numbers = int64_t{1} << 28;  // 2 GB of points: more is a mistake

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw UserError(path.string() + ": " + what);
}

std::string contents_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream || fs::is_directory(path)) throw UserError("cannot read the points in " + path.string());
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// --- text ------------------------------------------------------------------------------------------------------------

/// The numbers of a line, between commas or blanks. An empty line, or one that begins with '#', has none.
std::vector<double> numbers_of(const fs::path& path, std::string_view line, size_t line_number) {
  constexpr std::string_view blanks = " \t\r";
  std::vector<double> numbers;
  const auto skip_blanks = [&] { line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size())); };
  skip_blanks();
  if (line.starts_with('#')) return numbers;
  while (!line.empty()) {
    if (line.starts_with('+')) line.remove_prefix(1);
    double number = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (error != std::errc()) {
      const std::string_view word = line.substr(0, std::min<size_t>(line.find_first_of(", \t\r"), 40));
      refuse(path, c10::str("line ", line_number, " has '", word, "'",
                            error == std::errc::result_out_of_range ? ", which is beyond the range of numbers"
                                                                    : " where a number is expected"));
    }
    numbers.push_back(number);
    line.remove_prefix(static_cast<size_t>(end - line.data()));
    const bool blank = !line.empty() && blanks.find(line.front()) != std::string_view::npos;
    skip_blanks();
    const bool comma = line.starts_with(',');
    if (comma) line.remove_prefix(1);
    if (!comma && !blank && !line.empty()) {
      refuse(path,
             c10::str("line ", line_number, " has '", line.substr(0, 20), "' where a comma or a blank is expected"));
    }
    skip_blanks();
    if (comma && line.empty()) refuse(path, c10::str("line ", line_number, " ends in a comma"));
  }
  return numbers;
}

at::Tensor read_text(const fs::path& path, const std::string& text) {
  std::vector<double> numbers;
  size_t width = 0, line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::vector<double> row = numbers_of(path, std::string_view(text).substr(begin, end - begin), ++line_number);
    begin = end + 1;
    if (row.empty()) continue;
    if (width == 0) width = row.size();
    if (row.size() != width) {
      refuse(path,
             c10::str("line ", line_number, " has ", row.size(), " numbers, but the lines before it have ", width));
    }
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  if (width == 0) refuse(path, "it holds no points");
  const at::Tensor points =
      at::empty({static_cast<int64_t>(numbers.size() / width), static_cast<int64_t>(width)}, at::kDouble);
  std::copy(numbers.begin(), numbers.end(), points.mutable_data_ptr<double>());
  return points;
}

// --- npy: magic, version, length of the header, a Python dictionary, the numbers
// --------------------------------------

struct NpyHeader {
  bool single = false;  ///< float32
  bool big_endian = false;
  bool by_columns = false;
  std::array<int64_t, 2> shape = {};
  size_t length = 0;  ///< with all that comes before the numbers
};

/// Accepts what NumPy writes for a matrix of floats, and nothing else.
NpyHeader npy_header(const fs::path& path, const std::string& bytes) {
  const auto byte = [&](size_t k) { return k < bytes.size() ? static_cast<unsigned char>(bytes[k]) : size_t{0}; };
  const size_t version = byte(6), before = version == 1 ? 10 : 12;
  const size_t length = byte(8) + 256 * byte(9) + (version == 1 ? 0 : 65536 * byte(10) + 16777216 * byte(11));
  if (version < 1 || version > 3 || bytes.size() < before + length) refuse(path, "it is not a whole npy file");
  if (length > 4096) refuse(path, "its npy header is not that of a matrix of numbers");
  const std::string text = bytes.substr(before, length);
  std::smatch type, order, shape;
  const auto has = [&text](std::smatch& match, const char* pattern) {
    return std::regex_search(text, match, std::regex(pattern));
  };
  if (!has(type, "'descr':\\s*'([^']{0,20})'") || !has(order, "'fortran_order':\\s*(True|False)") ||
      !has(shape, "'shape':\\s*\\(([0-9, ]*)\\)")) {
    refuse(path, "its npy header is not that of a matrix of numbers");
  }
  NpyHeader header;
  const std::string name = type[1];
  if (name != "<f8" && name != "<f4" && name != ">f8" && name != ">f4") {
    refuse(path, "it holds numbers of type '" + name + "'; expected float64 or float32");
  }
  header.single = name.ends_with("f4");
  header.big_endian = name.starts_with('>');
  header.by_columns = order[1] == "True";
  const std::string sizes = shape[1];
  std::smatch two;
  if (!std::regex_match(sizes, two, std::regex("\\s*([0-9]{1,10})\\s*,\\s*([0-9]{1,10})\\s*,?\\s*"))) {
    refuse(path, "its shape is (" + sizes + "); expected (points, dimension)");
  }
  header.shape = {std::stoll(two[1]), std::stoll(two[2])};
  header.length = before + length;
  return header;
}

template <class Bits, class Float>
double number_at(const char* bytes, bool big_endian) {
  Bits bits;
  std::memcpy(&bits, bytes, sizeof bits);
  if (big_endian) {
    auto* ends = reinterpret_cast<char*>(&bits);
    std::reverse(ends, ends + sizeof bits);
  }
  return static_cast<double>(std::bit_cast<Float>(bits));
}

at::Tensor read_npy(const fs::path& path, const std::string& bytes) {
  const NpyHeader header = npy_header(path, bytes);
  const auto [rows, columns] = header.shape;
  if (rows == 0 || columns == 0) refuse(path, "it holds no points");
  const size_t size = header.single ? 4 : 8;
  if (rows > most_numbers / columns || bytes.size() - header.length != static_cast<size_t>(rows * columns) * size) {
    refuse(path, c10::str("its npy header promises ", rows, " x ", columns, " numbers, but ",
                          bytes.size() - header.length, " bytes follow it"));
  }
  const at::Tensor points =
      at::empty({header.by_columns ? columns : rows, header.by_columns ? rows : columns}, at::kDouble);
  auto* out = points.mutable_data_ptr<double>();
  for (int64_t k = 0; k < points.numel(); ++k) {
    const char* number = bytes.data() + header.length + static_cast<size_t>(k) * size;
    out[k] = header.single ? number_at<uint32_t, float>(number, header.big_endian)
                           : number_at<uint64_t, double>(number, header.big_endian);
  }
  return header.by_columns ? points.t().contiguous() : points;
}

void write_npy(std::ostream& stream, const at::Tensor& points) {
  std::string header =
      c10::str("{'descr': '<f8', 'fortran_order': False, 'shape': (", points.size(0), ", ", points.size(1), "), }");
  constexpr size_t before = 10, alignment = 64;
  const size_t length = (before + header.size() + 1 + alignment - 1) / alignment * alignment - before;
  header.resize(length - 1, ' ');
  header += '\n';
  const std::array<char, 4> numbers = {1, 0, static_cast<char>(length % 256), static_cast<char>(length / 256)};
  stream << npy_magic;
  stream.write(numbers.data(), numbers.size());
  stream << header;
  stream.write(static_cast<const char*>(points.const_data_ptr()), static_cast<std::streamsize>(points.nbytes()));
}

/// The shortest text that is read back as the same number.
void write_text(std::ostream& stream, const at::Tensor& points, char separator) {
  const auto* number = points.const_data_ptr<double>();
  std::array<char, 32> text;
  for (int64_t i = 0; i < points.size(0); ++i) {
    for (int64_t k = 0; k < points.size(1); ++k) {
      if (k > 0) stream << separator;
      stream.write(text.data(), std::to_chars(text.data(), text.data() + text.size(), *number++).ptr - text.data());
    }
    stream << '\n';
  }
}

void check_points(const fs::path& path, const at::Tensor& points) {
  const auto* number = points.const_data_ptr<double>();
  const int64_t n = points.size(0), d = points.size(1);
  if (n < 2) refuse(path, "it holds a single point; at least 2 are needed");
  for (int64_t i = 0; i < n; ++i) {
    bool zero = true;
    for (int64_t k = 0; k < d; ++k, ++number) {
      if (!std::isfinite(*number)) refuse(path, c10::str("point ", i + 1, " is not finite"));
      zero = zero && std::abs(*number) < 1e-30;
    }
    if (zero) refuse(path, c10::str("point ", i + 1, " is zero and so has no direction"));
  }
}

}  // namespace

const std::vector<std::string>& points_format_names() {
  static const std::vector<std::string> names = {"csv", "npy", "txt"};
  return names;
}

PointsFormat points_format(const std::string& name, const fs::path& path) {
  const std::string ending = path.extension().string();
  const std::string chosen = !name.empty() ? name : ending.empty() ? "csv" : ending.substr(1);
  if (chosen == "npy") return PointsFormat::npy;
  return chosen == "txt" ? PointsFormat::txt : PointsFormat::csv;
}

at::Tensor read_points(const fs::path& path) {
  const std::string contents = contents_of(path);
  const at::Tensor points = contents.starts_with(npy_magic) ? read_npy(path, contents) : read_text(path, contents);
  check_points(path, points);
  return points;
}

void write_points(const fs::path& path, const at::Tensor& points, PointsFormat format) {
  const at::Tensor rows = points.to(at::kCPU, at::kDouble).contiguous();
  write_atomically(path, [&](std::ostream& stream) {
    if (format == PointsFormat::npy) {
      write_npy(stream, rows);
    } else {
      write_text(stream, rows, format == PointsFormat::csv ? ',' : ' ');
    }
  });
}

}  // namespace mma::examples
