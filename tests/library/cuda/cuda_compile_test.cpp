// The kernels compile for GPUs that are in use, without a GPU: by NVRTC, as they would be at a user's.
#include <gtest/gtest.h>
#include <mma/detail/cuda_runtime.hpp>

namespace {

using mma::detail::Nvrtc;

class CudaKernelsFor : public testing::TestWithParam<int> {};

TEST_P(CudaKernelsFor, CompileForEveryTypeAndSearch) {
  const Nvrtc nvrtc;
  if (!nvrtc) GTEST_SKIP() << "no NVRTC on this machine (libnvrtc.so.13, .12 or libnvrtc.so)";
  for (int rows = 0; rows < 4; ++rows) {
    for (int search = 0; search < 3; ++search) {
      const auto compiled = nvrtc.compile(mma::detail::cuda::source(rows, search), GetParam());
      EXPECT_FALSE(compiled.binary.empty()) << "rows " << rows << ", search " << search << ":\n" << compiled.log;
      const std::string binary(compiled.binary.begin(), compiled.binary.end());
      for (const char* name : mma::detail::cuda_kernel_names) {
        EXPECT_NE(binary.find(name), std::string::npos) << name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ComputeCapability, CudaKernelsFor, testing::Values(80, 90, 100),
                         testing::PrintToStringParamName());

TEST(CudaKernels, CompileWithoutTensorCoresForOlderOnes) {
  const Nvrtc nvrtc;
  if (!nvrtc) GTEST_SKIP() << "no NVRTC on this machine (libnvrtc.so.13, .12 or libnvrtc.so)";
  EXPECT_FALSE(nvrtc.compile(mma::detail::cuda::source(0, 0), 75).binary.empty());
}

TEST(CudaKernels, AnErrorIsToldInNvrtcsWords) {
  const Nvrtc nvrtc;
  if (!nvrtc) GTEST_SKIP() << "no NVRTC on this machine (libnvrtc.so.13, .12 or libnvrtc.so)";
  const auto compiled = nvrtc.compile("this is no program", 80);
  EXPECT_TRUE(compiled.binary.empty());
  EXPECT_NE(compiled.log.find("error"), std::string::npos);
}

}  // namespace
