// Writes the kernels' text, just as NVRTC gets it, as a file that a C++ compiler can take: a namespace for each type of
// rows, with tensor cores and without. For the emulator.
#include <mma/detail/nearest/cuda/source.hpp>

#include <fstream>

int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::ofstream out(arguments[1]);
  for (int rows = 0; rows < 4; ++rows) {
    using mma::detail::nearest::cuda::source;
    out << "namespace rows" << rows << " {\n" << source(rows, true) << "}\n";
    out << "namespace plain_rows" << rows << " {\n" << source(rows, false) << "}\n";
  }
  out.close();
  return out ? 0 : 1;
}
