# Gives the target mma_gloo: c10d's Gloo backend, for our own programs and tests. LibTorch has it compiled in but its wheel
# lacks gloo's headers, which are Debian's libgloo-dev. Nothing here reaches a consumer of mma::mma: the library takes the
# process group that its user made.
include(CheckCXXSourceCompiles)

# The headers are older than the gloo in LibTorch: used is what both have. The check links, for it must be there in LibTorch.
function(_mma_check_gloo)
  set(CMAKE_CXX_STANDARD 20)
  set(CMAKE_REQUIRED_LIBRARIES mma::libtorch)
  set(CMAKE_REQUIRED_DEFINITIONS -DUSE_C10D_GLOO)
  check_cxx_source_compiles("#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
    int main() { return c10d::ProcessGroupGloo::createDefaultDevice() == nullptr; }" MMA_HAVE_GLOO)
endfunction()

if(NOT TARGET mma_gloo)
  _mma_check_gloo()
  if(MMA_HAVE_GLOO)
    add_library(mma_gloo INTERFACE)
    target_compile_definitions(mma_gloo INTERFACE USE_C10D_GLOO)
    target_link_libraries(mma_gloo INTERFACE mma_own_code)
  else()
    message(STATUS "mma: without gloo's headers (Debian's libgloo-dev) nothing that starts processes is built")
  endif()
endif()
