#include "support/process/machine.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

namespace mma::examples {
namespace {

/// What follows "name: " in a file of the kernel; "" where it says nothing of that.
std::string value_in(const std::filesystem::path& file, const std::string& name) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(name)) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string name_of_first_gpu() {
  std::error_code ignored;
  for (const auto& gpu : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", ignored)) {
    const std::string name = value_in(gpu.path() / "information", "Model");
    if (!name.empty()) return name;
  }
  return "an NVIDIA GPU";
}

}  // namespace

std::string machine_description(const std::string& device) {
  const std::string model = value_in("/proc/cpuinfo", "model name");
  const std::string cores = std::to_string(std::thread::hardware_concurrency()) + " cores (" +
                            (model.empty() ? "an unknown processor" : model) + ")";
  return device == "cuda" ? name_of_first_gpu() + ", " + cores : cores;
}

}  // namespace mma::examples
