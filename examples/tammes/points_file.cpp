#include "tammes/points_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <regex>
#include <string_view>

#include "support/files/atomic_file.hpp"
#include "support/files/file_contents.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view npy_magic = "\x93NUMPY";
constexpr int64_t most_numbers = int64_t{1} << 28;  // 2 GB of points: more is a mistake

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw UserError(path.string() + ": " + what);
}

// --- text: a line is a comment, a heading or numbers
// ------------------------------------------------------------------------------------------------------------

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view blanks = " \t\r";
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  return text.substr(0, text.find_last_not_of(blanks) + 1);
}

/// Without its comment, and without the semicolon that ends a row of MATLAB's.
std::string_view content_of(std::string_view line) {
  for (const char* comment : {"#", "%", "//"}) line = line.substr(0, line.find(comment));
  line = without_blanks(line);
  if (line.ends_with(';')) line.remove_suffix(1);
  return without_blanks(line);
}

/// What lies between semicolons, else between commas, else between blanks.
std::vector<std::string_view> fields_of(std::string_view line) {
  const std::string_view separators = line.find(';') != std::string_view::npos   ? ";"
                                      : line.find(',') != std::string_view::npos ? ","
                                                                                 : " \t";
  std::vector<std::string_view> fields;
  for (size_t begin = 0; begin <= line.size() && !line.empty();) {
    const size_t end = std::min(line.find_first_of(separators, begin), line.size());
    std::string_view field = without_blanks(line.substr(begin, end - begin));
    if (field.size() > 1 && field.starts_with('"') && field.ends_with('"')) field = field.substr(1, field.size() - 2);
    if (!field.empty() || separators.front() != ' ') fields.push_back(field);
    begin = end + 1;
  }
  return fields;
}

struct Parsed {
  double number = 0;
  std::errc error = {};
};

/// The whole of the field. Between semicolons the decimal point may be a comma, as spreadsheets write it in Europe.
Parsed parsed(std::string_view field, bool decimal_comma) {
  if (field.starts_with('+')) field.remove_prefix(1);
  std::string with_point(field);
  if (const size_t comma = with_point.find(','); decimal_comma && comma != std::string::npos) with_point[comma] = '.';
  Parsed result;
  const char* last = with_point.data() + with_point.size();
  const auto [end, error] = std::from_chars(with_point.data(), last, result.number);
  result.error = error == std::errc() && end != last ? std::errc::invalid_argument : error;
  return result;
}

struct Row {
  size_t line = 0;  ///< from 1
  std::vector<double> numbers;
};

/// "3 6" above six points in three dimensions, in either order. What follows the two does not matter.
bool are_sizes(const std::vector<double>& numbers, double one, double other) {
  return numbers.size() >= 2 &&
         ((numbers[0] == one && numbers[1] == other) || (numbers[0] == other && numbers[1] == one));
}

/// The d and n of a file of Sloane's: pack.3.6.txt holds 6 points in 3 dimensions.
PointsShape shape_in_name(const fs::path& path) {
  const std::string name = path.filename().string();
  std::smatch match;
  if (!std::regex_match(name, match, std::regex("[A-Za-z]+\\.([0-9]{1,6})\\.([0-9]{1,9})\\.txt"))) return {};
  return {.points = std::stoll(match[2]), .dimension = std::stoll(match[1])};
}

class TextReader {
 public:
  TextReader(const fs::path& path, const PointsShape& asked) : path_(path), asked_(asked) {}

  at::Tensor read(std::string_view text) {
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
      refuse(path_, "it is text in UTF-16; expected UTF-8");
    }
    for (size_t line = 1; !text.empty(); ++line) {
      const size_t end = std::min(text.find('\n'), text.size());
      take(line, content_of(text.substr(0, end)));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (first_.line == 0) refuse(path_, "it holds no points");
    return points();
  }

 private:
  void take(size_t line, std::string_view content) {
    const std::vector<std::string_view> fields = fields_of(content);
    if (fields.empty()) return;
    Row row{line, {}};
    const bool semicolons = content.find(';') != std::string_view::npos;
    for (const std::string_view& field : fields) {
      const auto [number, error] = parsed(field, semicolons);
      if (error != std::errc() && row.numbers.empty() && first_.line == 0 && is_heading(fields, semicolons)) {
        return take_heading(line, content, fields);
      }
      if (error != std::errc()) refuse_field(line, field, error, &field == &fields.back() && fields.size() > 1);
      row.numbers.push_back(number);
    }
    take_row(std::move(row));
  }

  [[noreturn]] void refuse_field(size_t line, std::string_view field, std::errc error, bool last) const {
    if (field.empty() && last) refuse(path_, c10::str("line ", line, " ends in a comma"));
    constexpr size_t longest = 40;
    refuse(path_, c10::str("line ", line, " has '", field.substr(0, longest), "'",
                           error == std::errc::result_out_of_range ? ", which is beyond the range of numbers"
                                                                   : " where a number is expected"));
  }

  /// Words alone, above all numbers.
  static bool is_heading(const std::vector<std::string_view>& fields, bool semicolons) {
    return std::none_of(fields.begin(), fields.end(), [&](std::string_view field) {
      return parsed(field, semicolons).error != std::errc::invalid_argument;
    });
  }

  void take_heading(size_t line, std::string_view content, const std::vector<std::string_view>& fields) {
    for (const char* other : {"", "id", "index", "label", "name"}) {  // no coordinates, which would go unnoticed
      if (std::find(fields.begin(), fields.end(), other) == fields.end()) continue;
      refuse(path_, c10::str("line ", line, " names a column '", other, "'; expected coordinates alone"));
    }
    const bool names_columns = content.find_first_of(",;") != std::string_view::npos;
    heading_ = names_columns ? Row{line, std::vector<double>(fields.size())} : Row{};
  }

  void take_row(Row row) {
    if (heading_.line != 0 && row.numbers.size() != heading_.numbers.size()) refuse_width(row, heading_);
    if (first_.line == 0) {
      first_ = std::move(row);
      return;
    }
    if (rows_ > 0 && row.numbers.size() != last_.numbers.size()) refuse_width(row, last_);
    numbers_.insert(numbers_.end(), row.numbers.begin(), row.numbers.end());
    if (rows_++ == 0) second_line_ = row.line;
    last_ = std::move(row);
  }

  [[noreturn]] void refuse_width(const Row& row, const Row& other) const {
    refuse(path_,
           c10::str("line ", row.line, " has ", row.numbers.size(), row.numbers.size() == 1 ? " number" : " numbers",
                    ", but line ", other.line, " has ", other.numbers.size()));
  }

  at::Tensor points() {
    const size_t width = rows_ == 0 ? first_.numbers.size() : last_.numbers.size();
    const bool wrapped = width == 1 || (rows_ == 0 && asked_.dimension);
    const int64_t dimension = wrapped ? dimension_of_wrapped() : static_cast<int64_t>(width);
    if (!wrapped && !first_is_heading(width)) keep_first();
    const at::Tensor points = at::empty({std::ssize(numbers_) / dimension, dimension}, at::kDouble);
    std::copy(numbers_.begin(), numbers_.end(), points.mutable_data_ptr<double>());
    return points;
  }

  void keep_first() { numbers_.insert(numbers_.begin(), first_.numbers.begin(), first_.numbers.end()); }

  /// Of points a row: whether the first row only says how many follow.
  bool first_is_heading(size_t width) {
    const auto points = static_cast<double>(rows_), dimension = static_cast<double>(width);
    const bool counts = first_.numbers.size() == 1 && first_.numbers[0] == points;
    const bool sizes = rows_ > 0 && are_sizes(first_.numbers, points, dimension);
    if (rows_ == 0) return false;
    if (first_.numbers.size() != width) {
      if (!counts && !sizes) refuse_width({second_line_, last_.numbers}, first_);
      return true;
    }
    if (!sizes || rows_ == 1 || asked_.points == static_cast<int64_t>(rows_) + 1) return false;
    if (asked_.points == static_cast<int64_t>(rows_)) return true;
    refuse(path_, c10::str("line ", first_.line, " may be a point or say that ", rows_, " points in ", width,
                           " dimensions follow: say by -n how many there are"));
  }

  /// Of numbers that are one a line, or all in one line.
  int64_t dimension_of_wrapped() {
    const bool has_heading = first_.numbers.size() > 1 && rows_ > 0;
    if (!has_heading) keep_first();
    PointsShape shape = asked_;
    if (has_heading) {
      shape.dimension = dimension_in_heading();
    } else if (!shape.dimension) {
      shape = shape_by_count();
    }
    const int64_t dimension = *shape.dimension;
    if (dimension < 1) refuse(path_, c10::str("-d ", dimension, ": at least 1 dimension is needed"));
    const bool one_more = shape.points && *shape.points > 0 && *shape.points <= most_numbers / dimension &&
                          std::ssize(numbers_) == *shape.points * dimension + 1;
    if (one_more && rows_ > 0) numbers_.erase(numbers_.begin());  // a scale, which directions do not depend on
    if (std::ssize(numbers_) % dimension != 0) {
      refuse(path_,
             c10::str("its ", numbers_.size(), " numbers are no whole number of points in ", dimension, " dimensions"));
    }
    return dimension;
  }

  /// Sloane's order is the dimension, then the points.
  int64_t dimension_in_heading() const {
    const double one = first_.numbers[0], other = first_.numbers[1];
    const bool are_whole = one >= 1 && other >= 1 && one == std::floor(one) && other == std::floor(other);
    if (!are_whole || one * other != static_cast<double>(rows_)) {
      refuse_width({second_line_, last_.numbers}, first_);
    }
    const int64_t dimension = asked_.dimension.value_or(static_cast<int64_t>(one));
    if (dimension != static_cast<int64_t>(one) && dimension != static_cast<int64_t>(other)) {
      refuse(path_, c10::str("line ", first_.line, " says ", one, " x ", other, " numbers, which -d ", dimension,
                             " contradicts"));
    }
    return dimension;
  }

  /// Where -d is silent: by -n, or by the file's name.
  PointsShape shape_by_count() const {
    const int64_t held = std::ssize(numbers_);
    if (asked_.points.value_or(0) > 0 && held % *asked_.points == 0) return {asked_.points, held / *asked_.points};
    const PointsShape shape = shape_in_name(path_);
    if (!shape.dimension || *shape.dimension < 1) {
      refuse(path_,
             "it has one number a line: say by -d how many make a point (or in its name, as pack.3.6.txt does for 6 "
             "points in 3 dimensions)");
    }
    const int64_t promised = *shape.points * *shape.dimension;
    if (held != promised && held != promised + 1) {
      refuse(path_, c10::str("its name says ", *shape.points, " points in ", *shape.dimension,
                             " dimensions, but it holds ", held, " numbers; -d can say how many make a point"));
    }
    return shape;
  }

  const fs::path& path_;
  PointsShape asked_;
  Row heading_;                  ///< of words: as many numbers as it has words
  Row first_;                    ///< numbers: a point, or a heading
  std::vector<double> numbers_;  ///< of the rows after it, then of all points
  Row last_;
  size_t rows_ = 0;  ///< after the first
  size_t second_line_ = 0;
};

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

at::Tensor read_points(const fs::path& path, const PointsShape& asked) {
  const std::string contents = contents_of(path, uint64_t{8} * most_numbers);
  const at::Tensor points =
      contents.starts_with(npy_magic) ? read_npy(path, contents) : TextReader(path, asked).read(contents);
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
