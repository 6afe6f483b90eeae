# `cmake --install`: the headers and a relocatable package that find_package(mma CONFIG) finds.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mma")
configure_package_config_file(cmake/mma-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/mma-config.cmake"
                              INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/mma-config-version.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(DIRECTORY include/mma DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mma-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/mma-config-version.cmake"
              cmake/mma-libtorch.cmake DESTINATION "${package_dir}")
install(TARGETS mma EXPORT mma-targets)
install(EXPORT mma-targets NAMESPACE mma:: DESTINATION "${package_dir}")
