#include "reproduce/first_layer.hpp"

#include "angles/weights_file.hpp"
#include "training/run/run.hpp"

namespace mma::examples {
namespace {

constexpr int64_t histogram_bins = 100;  // 0.2 lies between two of them

}  // namespace

const LayerAngles& FirstLayers::of(const std::filesystem::path& run, const std::string& layer) {
  const auto known = read_.find(run);
  if (known != read_.end()) return known->second;
  LayerPatterns patterns;
  patterns.only = {layer};
  const StoredLayer stored = read_layers(RunFolder{run}.checkpoint(), patterns).layers.at(0);
  AngleOptions options;
  options.histogram_bins = histogram_bins;
  return read_.emplace(run, measure_angles(stored.name, stored.rows(), options)).first->second;
}

}  // namespace mma::examples
