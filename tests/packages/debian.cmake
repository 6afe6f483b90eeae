# packaging/debian: the control file and what lies where, by dpkg-deb.
find_program(dpkg_deb dpkg-deb)
if(NOT dpkg_deb)
  message("not tried: dpkg-deb is missing")
  return()
endif()

file(REMOVE_RECURSE "${BUILD}")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}/packaging/debian" -B "${BUILD}" OUTPUT_QUIET
                COMMAND_ERROR_IS_FATAL ANY)
get_filename_component(bin "${CMAKE_COMMAND}" DIRECTORY)
execute_process(COMMAND "${bin}/cpack" -G DEB WORKING_DIRECTORY "${BUILD}" OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
set(package "${BUILD}/libmma-dev_${VERSION}-1_all.deb")

function(expect_field name value)
  execute_process(COMMAND "${dpkg_deb}" -f "${package}" ${name} OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE
                  COMMAND_ERROR_IS_FATAL ANY)
  if(NOT found STREQUAL value)
    message(FATAL_ERROR "${name} is '${found}', expected '${value}'")
  endif()
endfunction()
expect_field(Package libmma-dev)
expect_field(Version ${VERSION}-1)
expect_field(Architecture all)
expect_field(Section libdevel)
expect_field(Depends "")

execute_process(COMMAND "${dpkg_deb}" -x "${package}" "${BUILD}/root" COMMAND_ERROR_IS_FATAL ANY)
file(GLOB_RECURSE found RELATIVE "${BUILD}/root" "${BUILD}/root/*")
list(FILTER found EXCLUDE REGEX "^usr/include/mma/.+\\.hpp$")
set(expected
    usr/share/cmake/mma/mma-config-version.cmake
    usr/share/cmake/mma/mma-config.cmake
    usr/share/cmake/mma/mma-libtorch.cmake
    usr/share/cmake/mma/mma-targets.cmake
    usr/share/cmake/mma_libtorch/mma_libtorch-config.cmake
    usr/share/cps/mma/mma.cps
    usr/share/doc/libmma-dev/changelog.Debian.gz
    usr/share/doc/libmma-dev/changelog.gz
    usr/share/doc/libmma-dev/copyright)
if(NOT found STREQUAL expected)
  message(FATAL_ERROR "beside the headers the package has\n${found}\nexpected\n${expected}")
endif()
execute_process(COMMAND gzip -dc "${BUILD}/root/usr/share/doc/libmma-dev/changelog.Debian.gz" OUTPUT_VARIABLE changelog
                COMMAND_ERROR_IS_FATAL ANY)
if(NOT changelog MATCHES "^mma \\(${VERSION}-1\\) .* [0-9][0-9]:[0-9][0-9]:[0-9][0-9] \\+0000\n$")
  message(FATAL_ERROR "changelog.Debian is\n${changelog}")
endif()
file(READ "${BUILD}/root/usr/share/doc/libmma-dev/copyright" copyright)
file(READ "${SOURCE}/LICENSE" license)
string(REGEX MATCH "Permission [^\n]*" permission "${license}")
string(FIND "${copyright}" "License: Expat\n ${permission}" found)
if(found EQUAL -1)
  message(FATAL_ERROR "copyright lacks LICENSE's permission:\n${copyright}")
endif()
