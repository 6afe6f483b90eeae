// What a run left, without the seconds, which differ between repetitions: two runs are the same when these are equal.
#pragma once

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support/files/tensor_file.hpp"
#include "tiny_data.hpp"

namespace mma::tests {

/// metrics.csv without its last five columns: seconds, seconds a step, share of communication, memory, date.
inline std::string metrics_without_seconds(const std::filesystem::path& run) {
  std::istringstream csv(read_bytes(run / "metrics.csv"));
  std::string text;
  for (std::string line; std::getline(csv, line);) {
    for (int column = 0; column < 5; ++column) line.erase(line.rfind(','));
    text += line + "\n";
  }
  return text;
}

inline nlohmann::json record_of(const std::filesystem::path& checkpoint) {
  return nlohmann::json::parse(examples::read_tensor_file(checkpoint).metadata.at("mma-train"));
}

/// The checkpoint's record of the run: where it stands, its sums, its history.
inline nlohmann::json record_without_seconds(const std::filesystem::path& run) {
  nlohmann::json record = record_of(run / "checkpoint.safetensors");
  record.erase("seconds");
  record.erase("communication_seconds");
  record.erase("settings");
  for (auto& epoch : record["history"]) {
    for (const char* key : {"seconds", "seconds_per_step", "communication_share", "peak_memory_mib", "finished_at"})
      epoch.erase(key);
  }
  return record;
}

/// Weights, momentum, random state and regularizer, bit for bit; metrics in all files.
inline void expect_equal_runs(const std::filesystem::path& one, const std::filesystem::path& other) {
  const auto first = examples::read_tensor_file(one / "checkpoint.safetensors");
  const auto second = examples::read_tensor_file(other / "checkpoint.safetensors");
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  for (const auto& [name, tensor] : first.tensors) {
    const at::Tensor* counterpart = second.find(name);
    ASSERT_NE(counterpart, nullptr) << name;
    EXPECT_TRUE(at::equal(tensor, *counterpart)) << name;
  }
  EXPECT_EQ(record_without_seconds(one), record_without_seconds(other));
  EXPECT_EQ(metrics_without_seconds(one), metrics_without_seconds(other));
}

}  // namespace mma::tests
