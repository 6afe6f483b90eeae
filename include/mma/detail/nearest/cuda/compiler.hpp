// NVRTC, CUDA's compiler at run time, with the few prototypes that are needed: found by dlopen, so no CUDA header and
// nothing to link.
#pragma once

#include <string>
#include <vector>

#include "../../platform.hpp"

namespace mma::detail::nearest::cuda {

class Nvrtc {
 public:
  Nvrtc() {
    for (const std::string& place : places()) {
      if (const SharedLibrary library(place); library && load(library)) {
        return;
      }
    }
  }

  explicit operator bool() const { return create_ != nullptr; }

  struct Compiled {
    std::vector<char> binary;  ///< empty where it failed
    std::string log;
  };

  /// Machine code for a compute capability such as 90. more_options: NVRTC's.
  Compiled compile(const std::string& source, int capability, const std::vector<const char*>& more_options = {}) const {
    Program program = nullptr;
    if (create_(&program, source.c_str(), "mma.cu", 0, nullptr, nullptr) != 0) {
      return {{}, "NVRTC cannot make a program"};
    }
    const std::string architecture = "--gpu-architecture=sm_" + std::to_string(capability);
    std::vector<const char*> options{architecture.c_str(), "--std=c++17", "--fmad=false", "--disable-warnings"};
    options.insert(options.end(), more_options.begin(), more_options.end());
    Compiled result;
    const bool compiled = compile_(program, static_cast<int>(options.size()), options.data()) == 0;
    size_t size = 0;
    if (log_size_(program, &size) == 0 && size > 0) {
      result.log.resize(size);
      log_(program, result.log.data());
    }
    if (compiled && binary_size_(program, &size) == 0) {
      result.binary.resize(size);
      if (binary_(program, result.binary.data()) != 0) {
        result.binary.clear();
      }
    }
    destroy_(&program);
    return result;
  }

 private:
  using Program = void*;

  /// By name, then beside LibTorch, where its wheel's or archive's own NVRTC is.
  static std::vector<std::string> places() {
    const std::vector<std::string> names{"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    std::vector<std::string> result = names;
    const std::string torch = SharedLibrary("libc10.so", SharedLibrary::Open::IfLoaded).folder();
    for (const char* folder : {"/", "/../../nvidia/cu13/lib/", "/../../nvidia/cuda_nvrtc/lib/"}) {
      const std::string place = torch + folder;
      for (const std::string& name : names) {
        result.push_back(place + name);
      }
    }
    return result;
  }

  bool load(const SharedLibrary& library) {
    library.find(create_, "nvrtcCreateProgram");
    library.find(compile_, "nvrtcCompileProgram");
    library.find(log_size_, "nvrtcGetProgramLogSize");
    library.find(log_, "nvrtcGetProgramLog");
    library.find(binary_size_, "nvrtcGetCUBINSize");
    library.find(binary_, "nvrtcGetCUBIN");
    library.find(destroy_, "nvrtcDestroyProgram");
    if (compile_ == nullptr || log_size_ == nullptr || log_ == nullptr || binary_size_ == nullptr ||
        binary_ == nullptr || destroy_ == nullptr) {
      create_ = nullptr;
    }
    return create_ != nullptr;
  }

  int (*create_)(Program*, const char* source, const char* name, int headers, const char* const*,
                 const char* const*) = nullptr;
  int (*compile_)(Program, int options, const char* const*) = nullptr;
  int (*log_size_)(Program, size_t*) = nullptr;
  int (*log_)(Program, char*) = nullptr;
  int (*binary_size_)(Program, size_t*) = nullptr;
  int (*binary_)(Program, char*) = nullptr;
  int (*destroy_)(Program*) = nullptr;
};

}  // namespace mma::detail::nearest::cuda
