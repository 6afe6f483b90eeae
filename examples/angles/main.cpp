// mma-angles: the angles between the weight vectors of each layer of weights files, as a table, JSON or a picture.
#include <filesystem>
#include <iostream>

#include "angles/command_line.hpp"
#include "angles/measuring_progress.hpp"
#include "mma/report.hpp"
#include "support/images/histograms.hpp"
#include "support/process/error.hpp"

namespace {

using namespace mma::examples;

constexpr int64_t histogram_bins = 100;  // 0.2 lies between two of them

/// What tells a file from the others: its name, or that of a run's folder.
std::string label_of(const std::filesystem::path& file) {
  return file.filename() == "checkpoint.safetensors" && file.has_parent_path() ? file.parent_path().filename().string()
                                                                               : file.filename().string();
}

struct Shown {
  mma::Report report;
  std::vector<UnshownTensor> unshown;
};

/// Work in products of numbers, for the bar: all pairs of rows.
double work_of(const StoredLayer& layer) {
  const at::Tensor rows = layer.rows();
  return static_cast<double>(rows.size(0)) * static_cast<double>(rows.size(1)) * static_cast<double>(rows.size(1)) *
         static_cast<double>(rows.size(2));
}

Shown measured(const AnglesArguments& arguments) {
  Shown shown;
  std::vector<StoredLayer> layers;
  for (const std::string& file : arguments.files) {
    const std::string prefix = arguments.files.size() > 1 ? label_of(file) + ": " : "";
    StoredLayers stored = read_layers(file, arguments.patterns, arguments.key);
    for (StoredLayer& layer : stored.layers) {
      layer.name = prefix + layer.name;
      layers.push_back(std::move(layer));
    }
    for (UnshownTensor& tensor : stored.unshown) {
      tensor.name = prefix + tensor.name;
      shown.unshown.push_back(std::move(tensor));
    }
  }
  double work = 0;
  for (const StoredLayer& layer : layers) work += work_of(layer);
  MeasuringProgress progress(work);
  mma::AngleOptions options;
  options.cosine_threshold = arguments.cosine;
  options.histogram_bins = arguments.json || !arguments.plot.empty() ? histogram_bins : 0;
  for (const StoredLayer& layer : layers) {
    const double of_layer = work_of(layer);
    options.progress = [&](double share) { progress.show(layer.name, share * of_layer); };
    options.progress(0);
    mma::LayerAngles angles = mma::measure_angles(layer.name, layer.rows(), options);
    angles.note = layer.note + (layer.note.empty() || angles.note.empty() ? "" : "; ") + angles.note;
    shown.report.layers.push_back(std::move(angles));
    progress.finished(of_layer);
  }
  return shown;
}

/// JSON has a place for what is not shown.
void print_json(Shown& shown) {
  for (const UnshownTensor& tensor : shown.unshown) {
    shown.report.left_out.push_back({tensor.name, tensor.sizes, tensor.why});
  }
  std::cout << shown.report.json();
}

int run(int argc, char** argv) {
  const std::optional<AnglesArguments> arguments = read_angles_command_line(argc, argv);
  if (!arguments) return 0;
  Shown shown = measured(*arguments);
  if (!arguments->plot.empty()) plot_histograms(shown.report, arguments->plot);
  if (arguments->json) {
    print_json(shown);
  } else {
    std::cout << shown.report << words_about(shown.unshown);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-angles", [&] { return run(argc, argv); });
}
