// How much memory something takes at its peak, as the system counts it: also what libraries take for themselves.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <optional>
#include <string>

namespace mma::tests {

/// A line "VmHWM:   1234 kB" of /proc/self/status, in bytes; empty where there is none.
inline std::optional<int64_t> status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kibibytes = 0;
    if (word == name + ":" && status >> kibibytes) return kibibytes * 1024;
  }
  return std::nullopt;
}

/// The most that is taken beyond what there was before; empty where the system cannot say so.
inline std::optional<int64_t> peak_bytes_of(const std::function<void()>& action) {
  std::ofstream reset("/proc/self/clear_refs");
  const bool is_reset = reset << 5 << std::flush ? true : false;  // the peak begins anew
  const auto before = status_bytes("VmRSS");
  action();
  const auto peak = status_bytes("VmHWM");
  if (!is_reset || !before || !peak) return std::nullopt;
  return *peak - *before;
}

}  // namespace mma::tests
