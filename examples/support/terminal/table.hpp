// Tables of words, the first line their head: in columns, as Markdown and as CSV.
#pragma once

#include <string>
#include <vector>

namespace mma::examples {

using TableLines = std::vector<std::vector<std::string>>;

/// The first `text_columns` stand to the left, the others, numbers, to the right. A cell's own | is escaped, the end of
/// a line in it becomes a space.
std::string as_markdown(const TableLines& lines, size_t text_columns = 0);

/// Columns padded to their widest cell, the first and the last to the left, the others, numbers, to the right.
std::string as_columns(const TableLines& lines);

/// Cells with a comma, a quote or a line's end are quoted.
std::string as_csv(const TableLines& lines);

/// The shortest text that reads back as the same double; "nan" for one that is none.
std::string exact(double value);

}  // namespace mma::examples
