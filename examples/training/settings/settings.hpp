// Everything that decides the numbers of a run, fully resolved: what config.json and the checkpoint record. What an
// option is called, may be and does is in table.cpp, a row each.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mma::examples {

struct Settings {
  std::string model;
  std::string dataset;
  std::string data;  ///< the data set's folder
  std::string recipe;
  std::string regularizer = "mma";  ///< the name of an objective, or none
  double coefficient = 0;
  std::string scope = "all";  ///< hidden, output, all
  int64_t refresh_every = 1;  ///< steps from one search of nearest filters to the next
  int64_t epochs = 0;
  int64_t batch = 0;
  double learning_rate = 0;
  std::vector<int64_t> milestones;  ///< finished epochs after which the learning rate falls
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;
  double rate_divisor = 10;             ///< what the learning rate is divided by at each milestone
  std::string schedule = "multi-step";  ///< or cosine, which has no milestones
  int64_t warm_up = 0;                  ///< epochs over which the learning rate rises to the first one
  double label_smoothing = 0;           ///< the share of a label's weight that all classes have
  bool decay_filters_only = false;      ///< weight decay leaves normalisation and biases out
  double average = 0;                   ///< decay a step of the moving average of the weights that is tested; 0: none
  double dropout = 0;
  bool autoaugment = false;
  int64_t cutout = 0;             ///< the side of the square cut out of each training image; 0: none
  int64_t padding = 4;            ///< training images are moved by up to so many pixels
  std::vector<double> mean;       ///< of normalisation; empty: the data set's
  std::vector<double> deviation;  ///< the same
  uint64_t seed = 1;
  int64_t limit_train = 0;  ///< a random subset of so many training images; 0: all
  int64_t limit_test = 0;   ///< the same for the test images
  std::string device = "cpu";
  std::string precision = "float32";  ///< or bf16, fp16
  bool channels_last = true;          ///< the order in memory of images, activations and filters
  bool cuda_graph = false;            ///< steps are captured once and replayed
  bool deterministic = false;         ///< refuse operations whose numbers may differ from run to run
  bool cudnn_benchmark = false;       ///< cuDNN tries its algorithms and takes the fastest
  int64_t threads = 1;
  bool sync_batch_norm = false;  ///< batch normalisation over the batches of all processes
  int64_t timeout = 300;         ///< seconds of silence after which a process of several is given up
  int64_t checkpoint_steps = 0;  ///< a checkpoint also after each so many steps; 0: at the end of epochs alone

  /// What a program has beside these, an object under a name of its own: {"faces": {"scale": 64, ...}}.
  std::map<std::string, nlohmann::ordered_json> of_program;
};

nlohmann::ordered_json to_json(const Settings& settings);

/// Throws BadJson when a member is missing or of another type. What older versions did not have may
/// be missing.
Settings settings_from_json(const nlohmann::ordered_json& json);

/// Throws BadJson for a setting of a version to come: who goes on with a run has to know what it means.
void refuse_unknown_settings(const nlohmann::ordered_json& json);

/// Throws UserError for a value that no run can have: zero epochs, a negative rate, an unknown device. The sentences
/// name the flags of the command line.
void check(const Settings& settings);

}  // namespace mma::examples
