// Peak memory of a step: each in a process of its own, so that none gets what another has left.
#pragma once

#include <malloc.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "measure.hpp"

namespace mma::benchmarks {

inline double status_mebibytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::stod(line.substr(field.size() + 1)) / 1024;
  }
  return 0;
}

/// The peak of resident memory from here on beyond what there is now.
class PeakMemory {
 public:
  PeakMemory() {
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM starts again
    before_ = status_mebibytes("VmRSS");
  }
  double mebibytes() const { return status_mebibytes("VmHWM") - before_; }

 private:
  double before_ = 0;
};

struct Peak {
  double mebibytes = -1, milliseconds = 0;
};

/// For the process of its own.
inline void print_peak(const Peak& peak) { std::printf("%.1f %.3f\n", peak.mebibytes, peak.milliseconds); }

/// Runs `program --peak arguments`, which ends with print_peak; -1 MiB where it failed.
inline Peak peak_of(const std::string& program, const std::string& arguments) {
  Peak peak;
  const std::string command = "'" + program + "' --peak " + arguments;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    if (std::fscanf(pipe, "%lf %lf", &peak.mebibytes, &peak.milliseconds) != 2) peak.mebibytes = -1;
    pclose(pipe);
  }
  return peak;
}

}  // namespace mma::benchmarks
