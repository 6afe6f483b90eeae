// Run folders written by hand, as mma-train leaves them.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "../training/run/tiny_data.hpp"
#include "reproduce/plan.hpp"

namespace mma::tests {

/// What a test says of one epoch of a run.
struct MadeEpoch {
  double top1, top5;
  std::vector<std::pair<std::string, double>> angles;  ///< degrees by layer
  double seconds_per_step = 0.25, memory = 1000;
};

inline void write_config(const examples::PlannedRun& run, const nlohmann::ordered_json& changes = {}) {
  std::filesystem::create_directories(run.folder);
  nlohmann::ordered_json config;
  config["version"] = "0.1.0";
  config["git_commit"] = "abc";
  config["libtorch"] = "2.11.0";
  config["machine"] = "a slide rule";
  config["settings"] = to_json(run.settings);
  for (const auto& [name, value] : changes.items()) config["settings"][name] = value;
  write_bytes(run.folder / "config.json", config.dump());
}

inline void write_metrics(const examples::PlannedRun& run, const std::vector<MadeEpoch>& epochs) {
  std::string text;
  for (size_t i = 0; i < epochs.size(); ++i) {
    nlohmann::ordered_json line = {{"epoch", i + 1},
                                   {"learning_rate", 0.1},
                                   {"loss", 1.5},
                                   {"regularization_loss", 0},
                                   {"top1_percent", epochs[i].top1},
                                   {"top5_percent", epochs[i].top5},
                                   {"mean_nearest_angle_degrees", 80},
                                   {"pairs_above_0.2", 7},
                                   {"minimal_angle_degrees", nlohmann::ordered_json::object()},
                                   {"seconds", 100},
                                   {"seconds_per_step", epochs[i].seconds_per_step},
                                   {"peak_memory_mib", epochs[i].memory}};
    for (const auto& [layer, angle] : epochs[i].angles) line["minimal_angle_degrees"][layer] = angle;
    text += line.dump() + "\n";
  }
  write_bytes(run.folder / "metrics.jsonl", text);
}

/// A finished run: as many epochs as its settings have, all with the same figures.
inline void write_finished(const examples::PlannedRun& run, const MadeEpoch& epoch) {
  write_config(run);
  write_metrics(run, std::vector<MadeEpoch>(static_cast<size_t>(run.settings.epochs), epoch));
}

}  // namespace mma::tests
