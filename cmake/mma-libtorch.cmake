# Gives the target mma::libtorch: LibTorch's headers and libraries, without Torch's own package, which stops on a
# machine that has no CUDA toolkit and hands its flags to everybody. A project that already has Torch's target gets that.
#
#   mma_provide_libtorch([HINT <folder that was used when mma was built>])
#
# Looks in Torch_DIR, Torch_ROOT, CMAKE_PREFIX_PATH (variable, then environment), the system, and last in HINT.

# Where LibTorch may lie, given the prefixes that users name: itself, or a Python site folder that holds it.
function(_mma_libtorch_folders out)
  set(folders "")
  if(Torch_DIR)
    list(APPEND folders "${Torch_DIR}/../../..")
  endif()
  foreach(prefix IN LISTS Torch_ROOT CMAKE_PREFIX_PATH)
    list(APPEND folders "${prefix}" "${prefix}/torch")
  endforeach()
  string(REPLACE ":" ";" environment "$ENV{Torch_ROOT}:$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix IN LISTS environment)
    list(APPEND folders "${prefix}" "${prefix}/torch")
  endforeach()
  set(${out} "${folders}" PARENT_SCOPE)
endfunction()

# LibTorch's CUDA half is linked only where everything that it needs is there: the wheel alone has it without its CUDA.
function(_mma_libtorch_cuda_is_usable library out)
  set(${out} FALSE PARENT_SCOPE)
  if(EXISTS "${library}")
    execute_process(COMMAND ldd "${library}" OUTPUT_VARIABLE needs ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed AND NOT needs MATCHES "not found")
      set(${out} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

function(_mma_libtorch_from_package)
  add_library(mma::libtorch INTERFACE IMPORTED GLOBAL)
  set_target_properties(mma::libtorch PROPERTIES INTERFACE_LINK_LIBRARIES torch)
endfunction()

function(_mma_libtorch_library name file)
  add_library(mma::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(mma::${name} PROPERTIES IMPORTED_LOCATION "${file}" IMPORTED_SONAME "lib${name}.so")
endfunction()

function(mma_provide_libtorch)
  cmake_parse_arguments(arg "" "HINT" "" ${ARGN})
  if(TARGET mma::libtorch)
    return()
  endif()
  if(TARGET torch)
    _mma_libtorch_from_package()
    return()
  endif()

  _mma_libtorch_folders(folders)
  find_file(cpu libtorch_cpu.so NO_CACHE HINTS ${folders} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  if(NOT cpu)
    find_library(cpu libtorch_cpu.so NO_CACHE)
  endif()
  if(NOT cpu AND arg_HINT)
    find_file(cpu libtorch_cpu.so NO_CACHE HINTS "${arg_HINT}" PATH_SUFFIXES lib NO_DEFAULT_PATH)
  endif()
  if(NOT cpu)
    message(FATAL_ERROR "mma: LibTorch was not found. Name its folder (the one that holds include/ and lib/) in "
                        "CMAKE_PREFIX_PATH, for example -DCMAKE_PREFIX_PATH=/opt/libtorch.")
  endif()

  get_filename_component(lib "${cpu}" DIRECTORY)
  get_filename_component(lib "${lib}" REALPATH)
  get_filename_component(root "${lib}" DIRECTORY)
  if(NOT EXISTS "${root}/include/ATen")
    get_filename_component(root "${root}" DIRECTORY) # Debian's libtorch-dev: /usr/lib/x86_64-linux-gnu and /usr/include
  endif()
  set(libraries mma::torch_cpu mma::c10)
  _mma_libtorch_library(torch_cpu "${lib}/libtorch_cpu.so")
  _mma_libtorch_library(c10 "${lib}/libc10.so")
  _mma_libtorch_cuda_is_usable("${lib}/libtorch_cuda.so" cuda)
  if(cuda)
    # Nothing refers to a symbol of it: it registers its kernels when it is loaded.
    list(APPEND libraries "-Wl,--no-as-needed,\"${lib}/libtorch_cuda.so\" -Wl,--as-needed")
  endif()
  add_library(mma::libtorch INTERFACE IMPORTED GLOBAL)
  set_target_properties(
    mma::libtorch
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${root}/include;${root}/include/torch/csrc/api/include"
               INTERFACE_LINK_LIBRARIES "${libraries}"
               INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  if(NOT mma_FIND_QUIETLY)
    message(STATUS "mma: LibTorch in ${root}")
  endif()
  set(mma_LIBTORCH_ROOT "${root}" PARENT_SCOPE)
  set(mma_LIBTORCH_CUDA ${cuda} PARENT_SCOPE)
endfunction()
