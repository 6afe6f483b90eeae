# As a packager installs: no LibTorch anywhere, and no path of the building machine in what is installed.
file(REMOVE_RECURSE "${BUILD}" "${PREFIX}")
set(ENV{CMAKE_PREFIX_PATH} "")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BUILD}" -DMMA_HEADERS_ONLY=ON OUTPUT_QUIET
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${PREFIX}" OUTPUT_QUIET
                COMMAND_ERROR_IS_FATAL ANY)

file(GLOB_RECURSE files "${PREFIX}/*")
foreach(file IN LISTS files)
  file(READ "${file}" text)
  foreach(path "${SOURCE}" "${BUILD}" "${PREFIX}" "${LIBTORCH}")
    string(FIND "${text}" "${path}" found)
    if(NOT found EQUAL -1)
      message(FATAL_ERROR "${file} names ${path}")
    endif()
  endforeach()
endforeach()

# The headers of the sources, all of them and nothing else.
file(GLOB_RECURSE expected RELATIVE "${SOURCE}/include" "${SOURCE}/include/*.hpp")
file(GLOB_RECURSE installed RELATIVE "${PREFIX}/include" "${PREFIX}/include/*")
if(NOT installed STREQUAL expected)
  message(FATAL_ERROR "include/ has\n${installed}\nexpected\n${expected}")
endif()
