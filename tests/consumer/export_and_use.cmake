# Configures, builds and installs a library that adds mma as a subdirectory and exports itself; then a project that finds
# what was installed, moved to another place, and runs. Stops at the first step that fails.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${what} failed: ${failed}")
  endif()
endfunction()

set(common -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}")
file(REMOVE_RECURSE "${BUILD}")

set(ENV{CMAKE_PREFIX_PATH} "${LIBTORCH}")
run("Configuring the library" "${CMAKE_COMMAND}" -S "${SOURCE}/library" -B "${BUILD}/library" ${common}
    "-DMMA_SOURCE=${MMA_SOURCE}")
run("Building the library" "${CMAKE_COMMAND}" --build "${BUILD}/library")
run("Installing the library" "${CMAKE_COMMAND}" --install "${BUILD}/library" --prefix "${BUILD}/first")
file(RENAME "${BUILD}/first" "${BUILD}/installed")

set(ENV{CMAKE_PREFIX_PATH} "${BUILD}/installed:${LIBTORCH}")
run("Configuring its user" "${CMAKE_COMMAND}" -S "${SOURCE}/user" -B "${BUILD}/user" ${common})
run("Building its user" "${CMAKE_COMMAND}" --build "${BUILD}/user")
run("Running its user" "${BUILD}/user/user")

# What is installed must not need the sources that it was made of.
file(GLOB_RECURSE packages "${BUILD}/installed/*.cmake")
foreach(package IN LISTS packages)
  file(READ "${package}" text)
  string(FIND "${text}" "${MMA_SOURCE}/include" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "${package} names the headers in ${MMA_SOURCE}")
  endif()
endforeach()
