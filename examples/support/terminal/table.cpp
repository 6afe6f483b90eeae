#include "support/terminal/table.hpp"

#include <algorithm>
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

/// A cell that looks like the end of one would shift all that follow.
std::string as_cell(const std::string& text) {
  std::string cell;
  for (const char character : text) {
    if (character == '|') cell += '\\';
    cell += character == '\n' || character == '\r' ? ' ' : character;
  }
  return cell;
}

}  // namespace

std::string as_markdown(const TableLines& lines, size_t text_columns) {
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const std::string& cell : lines[i]) text.append("| ").append(as_cell(cell)).append(" ");
    text += "|\n";
    if (i > 0) continue;
    for (size_t column = 0; column < lines[i].size(); ++column) text += column < text_columns ? "|---" : "|---:";
    text += "|\n";
  }
  return text;
}

std::string as_columns(const TableLines& lines) {
  std::vector<size_t> widths(lines.front().size(), 0);
  for (const std::vector<std::string>& line : lines) {
    for (size_t k = 0; k < line.size(); ++k) widths[k] = std::max(widths[k], line[k].size());
  }
  std::string text;
  for (const std::vector<std::string>& line : lines) {
    for (size_t k = 0; k < line.size(); ++k) {
      const std::string padding(widths[k] - line[k].size(), ' ');
      const bool left = k == 0 || k + 1 == line.size();
      text.append(k == 0 ? "" : "  ").append(left ? line[k] + padding : padding + line[k]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
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
