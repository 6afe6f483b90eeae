// What a run has left in its folder for others to read: how it was made, and the figures of its finished epochs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/run/metrics.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// config.json, which has a member "settings". Throws UserError that names the folder when there is none, or when
/// mma-train did not write it.
nlohmann::ordered_json read_config(const std::filesystem::path& folder);

/// A hint for a config.json or a checkpoint's record that is refused: " (mma "0.9.0" wrote it, this is 0.2.0)"; empty
/// where that cannot be the reason.
std::string of_another_version(const nlohmann::ordered_json& record);

/// Its settings, held to what a run can have. Throws as read_config.
Settings read_settings(const std::filesystem::path& folder);

/// metrics.jsonl, epoch by epoch; empty where no epoch is finished yet. Throws UserError when mma-train did not write
/// it.
std::vector<EpochMetrics> read_history(const std::filesystem::path& folder);

/// The median over the epochs, of an even number the larger of the two in the middle: a figure that an epoch had. NaN
/// for what an older version did not measure.
double median(const std::vector<EpochMetrics>& history, double EpochMetrics::*member);

}  // namespace mma::examples
