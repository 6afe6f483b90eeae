// The paper's tables and figures, and our study for two cores: which trainings each of them sets side by side, and what
// the paper says of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

/// What one row trains, without its seed.
struct Variant {
  std::vector<std::string> words;         ///< of mma-train: a recipe, or network, data set and regularizer
  std::vector<std::string> at_full = {};  ///< further ones at full scale
  std::string folder = {};                ///< of its runs; empty: made from the settings
  std::optional<int64_t> threads = {};    ///< where the user asks for none
};

/// The paper's figures for a row; empty: it gives none.
struct PaperFigures {
  std::optional<double> top1 = {}, top5 = {};           ///< percent
  std::optional<double> seconds = {}, memory_mib = {};  ///< a batch, on its GPU
  std::vector<double> angles = {};                      ///< degrees, of the experiment's layers
  std::optional<int> pairs_above = {};                  ///< 0.2, in the first layer
};

struct ExperimentRow {
  std::string label;
  Variant variant;
  PaperFigures paper = {};
  std::optional<size_t> baseline = {};  ///< the row that this one is tested against; empty: it is one itself
  double coefficient = 0;               ///< of a figure over coefficients
};

/// A layer whose minimal angle a report shows. The name "" stands for the last layer.
struct LayerColumn {
  std::string label;
  std::string name;
};

enum class ExperimentKind {
  Table,         ///< accuracy and cost by row
  Coefficients,  ///< final accuracy by coefficient (Figures 3 and 4)
  Curves,        ///< accuracy by epoch (Figures 5 and 6)
  Cosines,       ///< histograms of the first layer's cosines (Figure 1)
  Study          ///< by pairs of seeds, with what so many seeds can show
};

struct Experiment {
  std::string name;  ///< as on the command line
  std::string title;
  ExperimentKind kind = ExperimentKind::Table;
  std::vector<ExperimentRow> rows;
  std::vector<LayerColumn> layers = {};
  std::string note = {};  ///< a paragraph below the title
  bool of_paper = true;   ///< among what the word all stands for
};

/// In the paper's order, then our studies and the strong baselines.
const std::vector<Experiment>& experiments();

/// Throws UserError for an unknown name; the sentence lists the known ones. The word all stands for the paper's.
std::vector<Experiment> experiments_named(const std::vector<std::string>& names);

/// "table2, table3, ..." for help texts.
std::string experiment_names();

}  // namespace mma::examples
