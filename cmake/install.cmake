# `cmake --install`: the headers and a relocatable package that find_package(mma CONFIG) finds, in CMake's own words and as
# a CPS file, which CMake 4.3 and later prefer and other tools can read. All of it is the same on every architecture.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/mma")
configure_package_config_file(cmake/mma-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/mma-config.cmake"
                              INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/mma-config-version.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(DIRECTORY include/mma DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mma-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/mma-config-version.cmake"
              cmake/mma-libtorch.cmake DESTINATION "${package_dir}")
install(TARGETS mma EXPORT mma-targets)
install(EXPORT mma-targets NAMESPACE mma:: DESTINATION "${package_dir}")

configure_file(cmake/mma_libtorch-config.cmake.in mma_libtorch-config.cmake @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mma_libtorch-config.cmake"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/cmake/mma_libtorch")
set(cps_dir "${CMAKE_INSTALL_DATADIR}/cps/mma")
set(prefix "@prefix@") # a word of CPS, which stays as it is
configure_file(cmake/mma.cps.in mma.cps)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mma.cps" DESTINATION "${cps_dir}")
