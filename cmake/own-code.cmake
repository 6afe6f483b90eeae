# How our own programs and tests are compiled. Nothing here reaches a consumer of mma::mma.
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(mma_own_code INTERFACE)
target_link_libraries(mma_own_code INTERFACE mma::mma)
target_compile_options(mma_own_code INTERFACE -Wall -Wextra -Wconversion)
