// mma-angles: the angles between the weight vectors of each layer of weights files, as a table, JSON or a picture.
#include <filesystem>
#include <iostream>

#include "angles/command_line.hpp"
#include "angles/histograms.hpp"
#include "common/error.hpp"
#include "mma/report.hpp"

namespace {

using namespace mma::examples;

constexpr int64_t histogram_bins = 100;  // 0.2 lies between two of them

/// What tells a file from the others: its name, or that of a run's folder.
std::string label_of(const std::filesystem::path& file) {
  return file.filename() == "checkpoint.safetensors" && file.has_parent_path() ? file.parent_path().filename().string()
                                                                               : file.filename().string();
}

mma::Report report_of(const AnglesArguments& arguments) {
  mma::Report report;
  mma::AngleOptions options;
  options.cosine_threshold = arguments.cosine;
  options.histogram_bins = histogram_bins;
  for (const std::string& file : arguments.files) {
    const std::string prefix = arguments.files.size() > 1 ? label_of(file) + ": " : "";
    for (const StoredLayer& layer : read_layers(file, arguments.patterns)) {
      report.layers.push_back(mma::measure_angles(prefix + layer.name, layer.rows(), options));
    }
  }
  return report;
}

int run(int argc, char** argv) {
  const std::optional<AnglesArguments> arguments = read_angles_command_line(argc, argv);
  if (!arguments) return 0;
  const mma::Report report = report_of(*arguments);
  if (!arguments->plot.empty()) plot_histograms(report, arguments->plot);
  if (arguments->json) {
    std::cout << report.json();
  } else {
    std::cout << report;
  }
  if (!std::cout.flush()) throw UserError("cannot write to the standard output");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-angles", [&] { return run(argc, argv); });
}
