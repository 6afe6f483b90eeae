// Compiles the kernels of cuda_source.hpp by NVRTC and launches them through the CUDA runtime that LibTorch has loaded.
// Both are found by dlopen and dlsym: no CUDA header, no CUDA compiler and nothing to link; where one of them is
// missing or the GPU is too old, there is one warning and no launcher.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/ScalarType.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "cuda_source.hpp"
#include "network_pairs.hpp"

namespace mma::detail {

enum class CudaKernel { Norms, Search, Decide, Layers, Total, Gradient };
inline constexpr std::array<const char*, 6> cuda_kernel_names{"mma_norms",  "mma_search", "mma_decide",
                                                              "mma_layers", "mma_total",  "mma_gradient"};

/// Where the kernels run: a GPU's current stream, or in the tests an emulator.
class KernelLauncher {
 public:
  virtual ~KernelLauncher() = default;

  /// The next launch of a kernel by so many blocks of so many threads; arguments as cudaLaunchKernel takes them.
  virtual void launch(CudaKernel kernel, int64_t blocks, int threads, void** arguments) = 0;
};

/// MMA_ROWS of a type, or -1.
inline int cuda_row_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return 0;
    case at::kDouble:
      return 1;
    case at::kHalf:
      return 2;
    case at::kBFloat16:
      return 3;
    default:
      return -1;
  }
}

/// A library that is loaded already, or that can be.
class SharedLibrary {
 public:
  SharedLibrary() = default;
  explicit SharedLibrary(const std::string& name, int flags = RTLD_NOW | RTLD_LOCAL)
      : handle_(dlopen(name.c_str(), flags)) {}

  explicit operator bool() const { return handle_ != nullptr; }

  /// Sets a pointer to a function, to nullptr where the library has none of that name.
  template <typename Function>
  void find(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(dlsym(handle_, name));
  }

  /// The folder it was loaded from.
  std::string folder() const {
    std::array<char, 4096> origin{};
    return handle_ != nullptr && dlinfo(handle_, RTLD_DI_ORIGIN, origin.data()) == 0 ? origin.data() : "";
  }

 private:
  void* handle_ = nullptr;  // never closed: kernels may be in use until the end
};

/// NVRTC, with the few prototypes that are needed.
class Nvrtc {
 public:
  Nvrtc() {
    for (const std::string& place : places()) {
      if (SharedLibrary library(place); library && load(library)) {
        return;
      }
    }
  }

  explicit operator bool() const { return create_ != nullptr; }

  struct Compiled {
    std::vector<char> binary;  ///< empty where it failed
    std::string log;
  };

  /// Machine code for a compute capability such as 90.
  Compiled compile(const std::string& source, int capability) const {
    Program program = nullptr;
    if (create_(&program, source.c_str(), "mma.cu", 0, nullptr, nullptr) != 0) {
      return {{}, "NVRTC cannot make a program"};
    }
    const std::string architecture = "--gpu-architecture=sm_" + std::to_string(capability);
    const std::array<const char*, 4> options{architecture.c_str(), "--std=c++17", "--fmad=false", "--disable-warnings"};
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
    const std::string torch = SharedLibrary("libc10.so", RTLD_NOW | RTLD_NOLOAD).folder();
    for (const char* folder : {"/", "/../../nvidia/cu13/lib/", "/../../nvidia/cuda_nvrtc/lib/"}) {
      for (const std::string& name : names) {
        result.push_back(torch + folder + name);
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

/// The CUDA runtime in this process.
class CudaRuntime {
 public:
  struct Size3 {
    unsigned x, y, z;
  };

  CudaRuntime() {
    find(get_attribute, "cudaDeviceGetAttribute");
    find(load_data, "cudaLibraryLoadData");
    find(get_kernel, "cudaLibraryGetKernel");
    find(launch, "cudaLaunchKernel");
    find(function_attributes, "cudaFuncGetAttributes");
    find(error_string, "cudaGetErrorString");
    find(last_error, "cudaGetLastError");
  }

  explicit operator bool() const {
    return get_attribute != nullptr && load_data != nullptr && get_kernel != nullptr && launch != nullptr &&
           function_attributes != nullptr && error_string != nullptr && last_error != nullptr;
  }

  /// Such as 90; 0 where it cannot be told.
  int capability(c10::Device device) const {
    constexpr int major_attribute = 75, minor_attribute = 76;
    int major = 0, minor = 0;
    const bool known = get_attribute(&major, major_attribute, device.index()) == 0 &&
                       get_attribute(&minor, minor_attribute, device.index()) == 0;
    return known ? 10 * major + minor : 0;
  }

  int (*get_attribute)(int*, int attribute, int device) = nullptr;
  int (*load_data)(void** library, const void* code, void*, void*, unsigned, void*, void*, unsigned) = nullptr;
  int (*get_kernel)(void** kernel, void* library, const char* name) = nullptr;
  int (*launch)(const void* kernel, Size3 blocks, Size3 threads, void** arguments, size_t shared,
                void* stream) = nullptr;
  int (*function_attributes)(void* attributes, const void* kernel) = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*last_error)() = nullptr;

 private:
  template <typename Function>
  static void find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
    for (const char* library : {"libtorch_cuda.so", "libtorch_cpu.so", "libcudart.so.13", "libcudart.so.12"}) {
      if (function == nullptr) {
        if (const SharedLibrary loaded(library, RTLD_NOW | RTLD_NOLOAD); loaded) {
          loaded.find(function, name);
        }
      }
    }
  }
};

/// The kernels for one type of rows and one search, on all devices of one architecture.
struct CudaKernels {
  std::array<void*, cuda_kernel_names.size()> kernels{};
};

/// Compiles and keeps. Everything that goes wrong is told once, in one warning, and gives nullptr.
class CudaCompiler {
 public:
  static CudaCompiler& instance() {
    static CudaCompiler compiler;
    return compiler;
  }

  const CudaRuntime& runtime() const { return runtime_; }

  /// Tensor cores for TF32 and bfloat16 came with compute capability 8.0; before, float32 finds the same rows.
  std::shared_ptr<const CudaKernels> kernels(c10::Device device, at::ScalarType type, SearchPrecision precision) {
    const std::lock_guard guard(mutex_);
    if (!runtime_) {
      return failed("the CUDA runtime that LibTorch has loaded lacks cudaLibraryLoadData (CUDA 12.8 or newer has it)");
    }
    const int capability = runtime_.capability(device);
    if (capability < 70) {
      return failed(capability == 0 ? "no GPU answers" : "its compute capability is below 7.0");
    }
    const auto search = static_cast<int>(capability < 80 ? SearchPrecision::Float32 : precision);
    const auto [place, is_new] = cache_.try_emplace({capability, cuda_row_type(type), search});
    if (is_new) {
      place->second = make(capability, cuda_row_type(type), search);
    }
    return place->second;
  }

 private:
  std::shared_ptr<const CudaKernels> failed(const std::string& why) {
    if (!warned_) {
      TORCH_WARN("mma: the GPU's own kernels are not used, the slower path is taken: ", why);
      warned_ = true;
    }
    return nullptr;
  }

  std::shared_ptr<const CudaKernels> make(int capability, int rows, int search) {
    if (!nvrtc_) {
      nvrtc_ = std::make_unique<Nvrtc>();
    }
    if (!*nvrtc_) {
      return failed("no libnvrtc.so.13, libnvrtc.so.12 or libnvrtc.so was found");
    }
    const Nvrtc::Compiled compiled = nvrtc_->compile(cuda::source(rows, search), capability);
    if (compiled.binary.empty()) {
      return failed("NVRTC refuses them for sm_" + std::to_string(capability) + ": " + compiled.log);
    }
    void* library = nullptr;
    if (const int error =
            runtime_.load_data(&library, compiled.binary.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
        error != 0) {
      return failed(std::string("they cannot be loaded: ") + cleared(error));
    }
    auto result = std::make_shared<CudaKernels>();
    for (size_t k = 0; k < cuda_kernel_names.size(); ++k) {
      if (const int error = runtime_.get_kernel(&result->kernels[k], library, cuda_kernel_names[k]); error != 0) {
        return failed(std::string(cuda_kernel_names[k]) + " cannot be loaded: " + cleared(error));
      }
    }
    return result;
  }

  /// The error's words; LibTorch must not find it at its next check.
  const char* cleared(int error) const {
    runtime_.last_error();
    return runtime_.error_string(error);
  }

  std::mutex mutex_;
  CudaRuntime runtime_;
  std::unique_ptr<Nvrtc> nvrtc_;
  std::map<std::tuple<int, int, int>, std::shared_ptr<const CudaKernels>> cache_;
  bool warned_ = false;
};

/// On a device's current stream.
class CudaLauncher : public KernelLauncher {
 public:
  /// Loads the kernels to the device now: it cannot be done while a CUDA graph is captured.
  CudaLauncher(c10::Device device, std::shared_ptr<const CudaKernels> kernels)
      : device_(device), kernels_(std::move(kernels)) {
    const c10::DeviceGuard guard(device_);
    const CudaRuntime& runtime = CudaCompiler::instance().runtime();
    for (const void* kernel : kernels_->kernels) {
      alignas(16) std::array<char, 1024> attributes;  // more than any version's cudaFuncAttributes
      if (runtime.function_attributes(attributes.data(), kernel) != 0) {
        runtime.last_error();  // then the first launch loads it, or says why not
      }
    }
  }

  void launch(CudaKernel kernel, int64_t blocks, int threads, void** arguments) override {
    const c10::DeviceGuard guard(device_);
    const c10::Stream stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
    const auto which = static_cast<size_t>(kernel);
    check(CudaCompiler::instance().runtime().launch(kernels_->kernels[which], {static_cast<unsigned>(blocks), 1, 1},
                                                    {static_cast<unsigned>(threads), 1, 1}, arguments, 0,
                                                    stream.native_handle()),
          cuda_kernel_names[which]);
  }

 private:
  static void check(int error, const char* what) {
    const CudaRuntime& runtime = CudaCompiler::instance().runtime();
    TORCH_CHECK(error == 0, "mma: ", what, " failed on the GPU: ", runtime.error_string(error));
  }

  c10::Device device_;
  std::shared_ptr<const CudaKernels> kernels_;
};

/// nullptr, after one warning, where the kernels cannot be had.
inline std::shared_ptr<KernelLauncher> cuda_launcher(c10::Device device, at::ScalarType type,
                                                     SearchPrecision precision) {
  if (!device.is_cuda() || cuda_row_type(type) < 0) {
    return nullptr;
  }
  const auto kernels = CudaCompiler::instance().kernels(device, type, precision);
  return kernels ? std::make_shared<CudaLauncher>(device, kernels) : nullptr;
}

}  // namespace mma::detail
