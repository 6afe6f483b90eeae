// Launches the kernels through the CUDA runtime that LibTorch has loaded, found by its symbols: no CUDA header and
// nothing to link. Where it or NVRTC is missing, or the GPU is too old, there is one warning and no launcher.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/ScalarType.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "../../platform.hpp"
#include "compiler.hpp"
#include "source.hpp"

namespace mma::detail::nearest::cuda {

enum class Kernel { Norms, Search, Decide, Values, Choosers, Gradient };
inline constexpr std::array<const char*, 6> kernel_names{"mma_norms",  "mma_search",   "mma_decide",
                                                         "mma_values", "mma_choosers", "mma_gradient"};

/// Where the kernels run: a GPU's current stream, or in the tests an emulator.
class KernelLauncher {
 public:
  virtual ~KernelLauncher() = default;

  /// The next launch of a kernel by so many blocks of so many threads; arguments as cudaLaunchKernel takes them.
  virtual void launch(Kernel kernel, int64_t blocks, int threads, void** arguments) = 0;

  /// How many multiprocessors a search is shared among.
  virtual int multiprocessors() const = 0;
};

/// MMA_ROWS of a type, or -1.
inline int row_type(at::ScalarType type) {
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

/// The CUDA runtime in this process.
class Runtime {
 public:
  struct Size3 {
    unsigned x, y, z;
  };

  Runtime() {
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
    int major_part = 0, minor_part = 0;
    const bool known = get_attribute(&major_part, major_attribute, device.index()) == 0 &&
                       get_attribute(&minor_part, minor_attribute, device.index()) == 0;
    return known ? 10 * major_part + minor_part : 0;
  }

  int multiprocessors(c10::Device device) const {
    constexpr int count_attribute = 16;
    int count = 0;
    return get_attribute(&count, count_attribute, device.index()) == 0 && count > 0 ? count : 1;
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
    SharedLibrary::find_in_process(function, name);
    for (const char* library : {"libtorch_cuda.so", "libtorch_cpu.so", "libcudart.so.13", "libcudart.so.12"}) {
      if (function == nullptr) {
        if (const SharedLibrary loaded = SharedLibrary(library, SharedLibrary::Open::IfLoaded); loaded) {
          loaded.find(function, name);
        }
      }
    }
  }
};

/// The kernels for one type of rows, on all devices of one architecture.
using Kernels = std::array<void*, kernel_names.size()>;

/// Compiles and keeps. Everything that goes wrong is told once, in one warning, and gives nullptr.
class KernelCache {
 public:
  static KernelCache& instance() {
    static KernelCache cache;
    return cache;
  }

  const Runtime& runtime() const { return runtime_; }

  std::shared_ptr<const Kernels> kernels(c10::Device device, at::ScalarType type) {
    const std::lock_guard guard(mutex_);
    if (!runtime_) {
      return failed("the CUDA runtime that LibTorch has loaded lacks cudaLibraryLoadData (CUDA 12.8 or newer has it)");
    }
    const int capability = runtime_.capability(device);
    if (capability < 70) {
      return failed(capability == 0 ? "no GPU answers" : "its compute capability is below 7.0");
    }
    const auto [place, is_new] = kept_.try_emplace({capability, row_type(type)});
    if (is_new) {
      place->second = make(capability, row_type(type));
    }
    return place->second;
  }

 private:
  std::shared_ptr<const Kernels> failed(const std::string& why) {
    if (!warned_) {
      TORCH_WARN("mma: the GPU's own kernels are not used, the slower path is taken: ", why);
      warned_ = true;
    }
    return nullptr;
  }

  std::shared_ptr<const Kernels> make(int capability, int rows) {
    if (!nvrtc_) {
      nvrtc_ = std::make_unique<Nvrtc>();
    }
    if (!*nvrtc_) {
      return failed("no libnvrtc.so.13, libnvrtc.so.12 or libnvrtc.so was found");
    }
    const Nvrtc::Compiled compiled = nvrtc_->compile(source_for(capability, rows), capability);
    if (compiled.binary.empty()) {
      return failed("NVRTC refuses them for sm_" + std::to_string(capability) + ": " + compiled.log);
    }
    void* library = nullptr;
    if (const int error =
            runtime_.load_data(&library, compiled.binary.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
        error != 0) {
      return failed(std::string("they cannot be loaded: ") + cleared(error));
    }
    auto result = std::make_shared<Kernels>();
    for (size_t k = 0; k < kernel_names.size(); ++k) {
      if (const int error = runtime_.get_kernel(&result->at(k), library, kernel_names[k]); error != 0) {
        return failed(std::string(kernel_names[k]) + " cannot be loaded: " + cleared(error));
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
  Runtime runtime_;
  std::unique_ptr<Nvrtc> nvrtc_;
  std::map<std::pair<int, int>, std::shared_ptr<const Kernels>> kept_;  // by capability and type of rows
  bool warned_ = false;
};

/// On a device's current stream.
class StreamLauncher final : public KernelLauncher {
 public:
  /// Loads the kernels to the device now: it cannot be done while a CUDA graph is captured.
  StreamLauncher(c10::Device device, std::shared_ptr<const Kernels> kernels)
      : device_(device), kernels_(std::move(kernels)) {
    const c10::DeviceGuard guard(device_);
    const Runtime& runtime = KernelCache::instance().runtime();
    for (const void* kernel : *kernels_) {
      alignas(16) std::array<char, 1024> attributes;  // more than any version's cudaFuncAttributes
      if (runtime.function_attributes(attributes.data(), kernel) != 0) {
        runtime.last_error();  // then the first launch loads it, or says why not
      }
    }
  }

  void launch(Kernel kernel, int64_t blocks, int threads, void** arguments) override {
    const c10::DeviceGuard guard(device_);
    const c10::Stream stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
    const auto which = static_cast<size_t>(kernel);
    const Runtime& runtime = KernelCache::instance().runtime();
    const int error = runtime.launch(kernels_->at(which), {static_cast<unsigned>(blocks), 1, 1},
                                     {static_cast<unsigned>(threads), 1, 1}, arguments, 0, stream.native_handle());
    TORCH_CHECK(error == 0, "mma: ", kernel_names[which], " failed on the GPU: ", runtime.error_string(error));
  }

  int multiprocessors() const override { return KernelCache::instance().runtime().multiprocessors(device_); }

 private:
  c10::Device device_;
  std::shared_ptr<const Kernels> kernels_;
};

/// nullptr, after one warning, where the kernels cannot be had.
inline std::shared_ptr<KernelLauncher> stream_launcher(c10::Device device, at::ScalarType type) {
  if (!device.is_cuda() || row_type(type) < 0) {
    return nullptr;
  }
  const auto kernels = KernelCache::instance().kernels(device, type);
  return kernels ? std::make_shared<StreamLauncher>(device, kernels) : nullptr;
}

}  // namespace mma::detail::nearest::cuda
