# Runs mma/portfile.cmake without vcpkg: what its functions do for a package of headers, as their documentation says.
#   cmake -DWORK=<folder> -P stand_ins.cmake; the package is in WORK/package
set(PORT mma)
set(CURRENT_PACKAGES_DIR "${WORK}/package")
set(ENV{CMAKE_PREFIX_PATH} "") # vcpkg's environment is clean

function(vcpkg_cmake_configure)
  cmake_parse_arguments(arg "" "SOURCE_PATH" "OPTIONS" ${ARGN})
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${arg_SOURCE_PATH}" -B "${WORK}/build" -DCMAKE_BUILD_TYPE=Release
                          "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" ${arg_OPTIONS} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(vcpkg_cmake_install)
  execute_process(COMMAND "${CMAKE_COMMAND}" --build "${WORK}/build" --target install COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Moves the package to share/<name>, one folder further up, and makes the ways that are counted from there one step shorter.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(arg "" "PACKAGE_NAME;CONFIG_PATH" "" ${ARGN})
  set(to "${CURRENT_PACKAGES_DIR}/share/${arg_PACKAGE_NAME}")
  file(RENAME "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}" "${to}")
  file(GLOB scripts "${to}/*.cmake")
  foreach(script IN LISTS scripts)
    file(READ "${script}" text)
    string(REPLACE "\${CMAKE_CURRENT_LIST_DIR}/../../../" "\${CMAKE_CURRENT_LIST_DIR}/../../" text "${text}")
    set(step "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
    string(REPLACE "${step}${step}${step}" "${step}${step}" text "${text}")
    file(WRITE "${script}" "${text}")
  endforeach()
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(arg "" "" "FILE_LIST" ${ARGN})
  file(INSTALL ${arg_FILE_LIST} DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
  file(RENAME "${CURRENT_PACKAGES_DIR}/share/${PORT}/LICENSE" "${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright")
endfunction()

file(REMOVE_RECURSE "${WORK}/build" "${CURRENT_PACKAGES_DIR}")
include("${CMAKE_CURRENT_LIST_DIR}/mma/portfile.cmake")

# What vcpkg itself refuses after a build.
foreach(file include/mma/mma.hpp share/mma/copyright share/mma/mma-config.cmake share/mma/usage)
  if(NOT EXISTS "${CURRENT_PACKAGES_DIR}/${file}")
    message(FATAL_ERROR "the package has no ${file}")
  endif()
endforeach()
file(GLOB_RECURSE files "${CURRENT_PACKAGES_DIR}/*")
foreach(file IN LISTS files)
  file(READ "${file}" text)
  string(FIND "${text}" "${WORK}" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "${file} has the absolute path ${WORK}")
  endif()
endforeach()
