#include "support/terminal/table.hpp"

#include <array>
#include <charconv>
#include <cmath>

namespace mma::examples {
namespace {

std::string quoted_where_needed(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char character : cell) quoted += character == '"' ? "\"\"" : std::string(1, character);
  return quoted + '"';
}

}  // namespace

std::string as_markdown(const TableLines& lines, size_t text_columns) {
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const std::string& cell : lines[i]) text.append("| ").append(cell).append(" ");
    text += "|\n";
    if (i > 0) continue;
    for (size_t column = 0; column < lines[i].size(); ++column) text += column < text_columns ? "|---" : "|---:";
    text += "|\n";
  }
  return text;
}

std::string as_csv(const TableLines& lines) {
  std::string text;
  for (const std::vector<std::string>& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) text.append(i == 0 ? "" : ",").append(quoted_where_needed(line[i]));
    text += '\n';
  }
  return text;
}

std::string exact(double value) {
  if (std::isnan(value)) return "nan";  // never "-nan"
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

}  // namespace mma::examples
