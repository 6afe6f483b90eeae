// Writes the kernels' text, just as NVRTC gets it, as a file that a C++ compiler can take: a namespace for each type of
// rows. For the emulator.
#include <mma/detail/nearest/cuda/source.hpp>

#include <fstream>

int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::ofstream out(arguments[1]);
  for (int rows = 0; rows < 4; ++rows) {
    out << "namespace rows" << rows << " {\n" << mma::detail::nearest::cuda::source(rows) << "}\n";
  }
  out.close();
  return out ? 0 : 1;
}
