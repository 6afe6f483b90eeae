# Configures, builds and runs the consumer project from nothing; stops at the first step that fails.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${what} failed: ${failed}")
  endif()
endfunction()

file(REMOVE_RECURSE "${BUILD}")
set(ENV{CMAKE_PREFIX_PATH} "")
set(prefixes "${LIBTORCH}")
if(FROM STREQUAL "package" OR FROM STREQUAL "torch-target")
  set(prefixes "${PREFIX};${LIBTORCH}")
endif()
run(Configuring "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BUILD}" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_PREFIX_PATH=${prefixes}"
    "-DMMA_FROM=${FROM}" "-DMMA_SOURCE=${MMA_SOURCE}" "-DLIBTORCH=${LIBTORCH}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}")
run(Building "${CMAKE_COMMAND}" --build "${BUILD}")
run(Running "${BUILD}/consumer")
