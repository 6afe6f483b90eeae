# Copies a consumer's project, configures, builds and runs it from nothing; stops at the first step that fails.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${what} failed: ${failed}")
  endif()
endfunction()

file(REMOVE_RECURSE "${BUILD}")
file(COPY "${SOURCE}/" DESTINATION "${BUILD}/source")
set(ENV{CMAKE_PREFIX_PATH} "${LIBTORCH}")
if(FROM STREQUAL "package" OR FROM STREQUAL "torch-target")
  set(ENV{CMAKE_PREFIX_PATH} "${PREFIX}:${LIBTORCH}")
endif()
run(Configuring "${CMAKE_COMMAND}" -S "${BUILD}/source" -B "${BUILD}/build" -DCMAKE_BUILD_TYPE=Release "-DMMA_FROM=${FROM}"
    "-DMMA_SOURCE=${MMA_SOURCE}" "-DLIBTORCH=${LIBTORCH}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}")
run(Building "${CMAKE_COMMAND}" --build "${BUILD}/build")
run(Running "${BUILD}/build/${PROGRAM}")

# The LibTorch that was asked for, not another that was also found.
execute_process(COMMAND ldd "${BUILD}/build/${PROGRAM}" OUTPUT_VARIABLE libraries)
string(FIND "${libraries}" "${LIBTORCH}/" found)
if(found EQUAL -1)
  message(FATAL_ERROR "${PROGRAM} is not linked to the LibTorch in '${LIBTORCH}':\n${libraries}")
endif()
