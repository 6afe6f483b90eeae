// The kernels compile for GPUs that are in use, without a GPU: by NVRTC, as they would be at a user's.
#include <gtest/gtest.h>
#include <mma/detail/nearest/cuda/runtime.hpp>

#include <fstream>
#include <string>

namespace {

using mma::detail::nearest::cuda::kernel_names;
using mma::detail::nearest::cuda::Nvrtc;
using mma::detail::nearest::cuda::source;

#define NEEDS_NVRTC(nvrtc) \
  if (!(nvrtc)) GTEST_SKIP() << "no NVRTC on this machine (libnvrtc.so.13, .12 or libnvrtc.so)"

class CudaKernelsFor : public testing::TestWithParam<int> {};

TEST_P(CudaKernelsFor, CompileForEveryTypeOfRows) {
  const Nvrtc nvrtc;
  NEEDS_NVRTC(nvrtc);
  for (int rows = 0; rows < 4; ++rows) {
    const auto compiled = nvrtc.compile(source(rows), GetParam());
    EXPECT_FALSE(compiled.binary.empty()) << "rows " << rows << ":\n" << compiled.log;
    const std::string binary(compiled.binary.begin(), compiled.binary.end());
    for (const char* name : kernel_names) EXPECT_NE(binary.find(name), std::string::npos) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(ComputeCapability, CudaKernelsFor, testing::Values(75, 80, 90, 100),
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
                             {"search.hpp", "inline Winner columns_mask("},
                             {"search.hpp", "inline void offer("},
                             {"gradient.hpp", "inline Gathered gather_choosers("}}) {
    std::string text = source(0);
    text.insert(text.find(place.text), "an_error ");
    const auto compiled = nvrtc.compile(text, 90);
    const std::string expected =
        std::string(place.header) + "(" + std::to_string(line_of(place.header, place.text)) + ")";
    EXPECT_NE(compiled.log.find(expected), std::string::npos) << "not " << expected << ":\n" << compiled.log;
  }
}

}  // namespace
