# Configures find/ against the installed package, with LibTorch where a Python site folder, LibTorch's archive and Debian's
# libtorch-dev have it.
file(REMOVE_RECURSE "${BUILD}")
file(MAKE_DIRECTORY "${BUILD}/debian/lib/some-linux-gnu")
get_filename_component(debian "${BUILD}/debian" REALPATH)
file(CREATE_LINK "${LIBTORCH}/include" "${debian}/include" SYMBOLIC)
foreach(library libtorch_cpu.so libc10.so)
  file(CREATE_LINK "${LIBTORCH}/lib/${library}" "${debian}/lib/some-linux-gnu/${library}" SYMBOLIC)
endforeach()
get_filename_component(site "${LIBTORCH}" DIRECTORY)

function(find_with libtorch include lib)
  set(ENV{CMAKE_PREFIX_PATH} "${PREFIX}:${libtorch}")
  file(REMOVE_RECURSE "${BUILD}/build")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/find" -B "${BUILD}/build" "-DVERSION=${VERSION}"
                          "-DEXPECTED_INCLUDE=${include}" "-DEXPECTED_LIB=${lib}"
                  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
endfunction()
find_with("${LIBTORCH}" "${LIBTORCH}/include" "${LIBTORCH}/lib")
if(site MATCHES "/libtorch-[^/]*$") # make test's cache is a site folder; a LibTorch of one's own need not lie in one
  find_with("${site}" "${LIBTORCH}/include" "${LIBTORCH}/lib")
endif()
find_with("${debian}" "${debian}/include" "${debian}/lib/some-linux-gnu")
