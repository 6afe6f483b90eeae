// The kernels compile for GPUs that are in use, without a GPU: by NVRTC, as they would be at a user's.
#include <gtest/gtest.h>
#include <mma/detail/nearest/cuda/runtime.hpp>

#include <fstream>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <string>

namespace {

using mma::detail::nearest::cuda::kernel_names;
using mma::detail::nearest::cuda::Nvrtc;
using mma::detail::nearest::cuda::source_for;

#define NEEDS_NVRTC(nvrtc) \
  if (!(nvrtc)) GTEST_SKIP() << "no NVRTC on this machine (libnvrtc.so.13, .12 or libnvrtc.so)"

class CudaKernelsFor : public testing::TestWithParam<int> {};

/// What ptxas says of the kernels: registers, bytes of shared memory, bytes spilled.
struct Resources {
  std::map<std::string, int> registers, shared, spilled;

  explicit Resources(const std::string& log) {
    static const std::regex kernel(R"('(mma_\w+)')"), spill(R"((\d+) bytes spill stores)"),
        use(R"(Used (\d+) registers)"), memory(R"((\d+) bytes smem)");
    std::istringstream lines(log);
    std::string name;
    std::smatch found;
    for (std::string line; std::getline(lines, line);) {
      if (std::regex_search(line, found, kernel)) name = found[1];
      if (std::regex_search(line, found, spill)) spilled[name] += std::stoi(found[1]);
      if (std::regex_search(line, found, use)) registers[name] = std::stoi(found[1]);
      if (std::regex_search(line, found, memory)) shared[name] = std::stoi(found[1]);
    }
  }

  int shared_of(const std::string& name) const { return shared.contains(name) ? shared.at(name) : 0; }
};

// Two blocks of the search and five of the gradient fit on a multiprocessor, with what they keep in registers there.
TEST_P(CudaKernelsFor, EveryTypeOfRowsCompilesAndNeedsNoMoreThanAMultiprocessorHas) {
  const Nvrtc nvrtc;
  NEEDS_NVRTC(nvrtc);
  for (int rows = 0; rows < 4; ++rows) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    const auto compiled = nvrtc.compile(source_for(GetParam(), rows), GetParam(), {"--ptxas-options=-v"});
    ASSERT_FALSE(compiled.binary.empty()) << compiled.log;
    const Resources all(compiled.log);
    for (const char* name : kernel_names) ASSERT_TRUE(all.registers.contains(name)) << name << ":\n" << compiled.log;
    std::cout << "sm_" << GetParam() << ", rows " << rows << ":";
    for (const char* name : kernel_names) {
      std::cout << " " << name << " " << all.registers.at(name) << " registers, " << all.shared_of(name) << " bytes;";
      EXPECT_LE(all.spilled.at(name), rows == 1 ? 32 : 0) << name;  // float64's tile leaves no register free
    }
    std::cout << "\n";
    EXPECT_LE(all.registers.at("mma_search"), 65536 / (2 * 128));
    EXPECT_LE(all.registers.at("mma_gradient"), 65536 / (5 * 128));
    EXPECT_LE(all.shared_of("mma_search"), 48 * 1024);
    EXPECT_LE(5 * all.shared_of("mma_gradient"), 64 * 1024);
  }
}

INSTANTIATE_TEST_SUITE_P(ComputeCapability, CudaKernelsFor, testing::Values(75, 80, 89, 90, 100, 120),
                         testing::PrintToStringParamName());

TEST(CudaKernels, AnErrorIsToldInNvrtcsWords) {
  const Nvrtc nvrtc;
  NEEDS_NVRTC(nvrtc);
  const auto compiled = nvrtc.compile("this is no program", 80);
  EXPECT_TRUE(compiled.binary.empty());
  EXPECT_NE(compiled.log.find("error"), std::string::npos);
}

/// The number of the line of a header of the kernels' that holds `text`, from 1.
int line_of(const std::string& header, const std::string& text) {
  std::ifstream file(std::string(MMA_KERNELS_FOLDER) + "/" + header);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.find(text) != std::string::npos) return number;
  }
  return 0;
}

TEST(CudaKernels, AnErrorNamesItsHeaderAndLine) {
  const Nvrtc nvrtc;
  NEEDS_NVRTC(nvrtc);
  struct Place {
    const char *header, *text;
  };
  for (const Place& place : {Place{"common.hpp", "inline double power_scale("},
                             {"winner.hpp", "inline Winner columns_mask("},
                             {"search.hpp", "inline void offer("},
                             {"choosers.hpp", "inline void count_choosers("}}) {
    std::string text = source_for(90, 0);
    text.insert(text.find(place.text), "an_error ");
    const auto compiled = nvrtc.compile(text, 90);
    const std::string expected =
        std::string(place.header) + "(" + std::to_string(line_of(place.header, place.text)) + ")";
    EXPECT_NE(compiled.log.find(expected), std::string::npos) << "not " << expected << ":\n" << compiled.log;
  }
}

}  // namespace
