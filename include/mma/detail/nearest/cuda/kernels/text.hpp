// A piece of the kernels' text. It knows where it is written, so that NVRTC's errors and a debugger name the header and
// the line.
#pragma once

#include <string>
#include <string_view>

namespace mma::detail::nearest::cuda {

class KernelText {
 public:
  /// __FILE__, the line on which the raw string begins, and the string.
  constexpr KernelText(std::string_view file, int line, const char* text)
      : file_(file.substr(file.find_last_of("/\\") + 1)), line_(line), text_(text) {}

  std::string with_line() const {
    return "#line " + std::to_string(line_) + " \"" + std::string(file_) + "\"\n" + text_;
  }

 private:
  std::string_view file_;
  int line_;
  const char* text_;
};

}  // namespace mma::detail::nearest::cuda
