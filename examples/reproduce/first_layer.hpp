// The first layer of finished runs, from their checkpoints: Figure 1's cosines.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "mma/report.hpp"

namespace mma::examples {

/// Reads each checkpoint once.
class FirstLayers {
 public:
  /// The angles of `layer` in the run's folder, the histogram of its cosines and the count of those above 0.2 too.
  /// Throws UserError when the checkpoint or the layer is not there.
  const LayerAngles& of(const std::filesystem::path& run, const std::string& layer);

 private:
  std::map<std::filesystem::path, LayerAngles> read_;
};

}  // namespace mma::examples
