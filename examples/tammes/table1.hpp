// mma-tammes table1: the paper's Table 1, its figures beside ours, the best known values and the annealed solver's.
#pragma once

#include <cstdint>
#include <string>

namespace mma::examples {

struct Table1Arguments {
  int64_t seeds = 3;  ///< of each objective; the best counts
  uint64_t first_seed = 1;
  int64_t iterations = 10000;  ///< of the paper's method
  int64_t largest = 600;       ///< rows with more points are left out
  int64_t threads = 0;         ///< 0: all cores
  std::string out = "table1";
};

/// Writes table1.txt, .csv and .md into the folder and prints the first. Every finished cell is kept in the folder, so
/// that an interrupted run goes on where it was. Returns the exit code.
int table1(const Table1Arguments& arguments);

}  // namespace mma::examples
