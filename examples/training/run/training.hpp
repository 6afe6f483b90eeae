// A network in training: one step, one evaluation, its angles, and the tensors from which it goes on bit for bit.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mma/mma.hpp>
#include <optional>

#include "support/files/tensor_file.hpp"
#include "training/distributed/gradient_reducer.hpp"
#include "training/models/network.hpp"
#include "training/run/batches.hpp"
#include "training/run/captured_step.hpp"
#include "training/run/gradient_scaler.hpp"
#include "training/run/metrics.hpp"
#include "training/run/sgd.hpp"
#include "training/run/trainer.hpp"
#include "training/run/weight_average.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// Sums over the steps of a running epoch.
struct LossSums {
  double cross_entropy = 0;   ///< over images
  double regularization = 0;  ///< over steps

  bool finite() const;
};

/// What the processes' work is measured by, of a running epoch.
struct StepCounts {
  int64_t skipped = 0;               ///< steps left out because a gradient in float16 overflowed
  double communication_seconds = 0;  ///< in which a process waited for the others, mean over the processes
};

/// The data set on a device, cut down to the seed's random subsets where the settings limit it.
Dataset prepared(Dataset dataset, const Settings& settings);

/// The settings' network for the data set, freshly initialised on the device.
std::shared_ptr<ImageClassifier> make_network(const Settings& settings, const Dataset& dataset, const Trainer& trainer);

/// Top-1 and top-5 of a network on images, in the settings' precision; empty when `stop` said so between two batches.
/// Several processes share the batches, and none of them is stopped.
std::optional<Hits> evaluated(
    ImageClassifier& model, const Settings& settings, const Dataset& dataset, const LabelledImages& split,
    const std::function<bool()>& stop = [] { return false; }, Processes& processes = Processes::alone());

class Training {
 public:
  /// Makes the network from the seed. The data must be prepared. Throws UserError when the data cannot fill a batch,
  /// or a CUDA graph cannot hold the regularizer. `processes`: those that train it together, connected; everything
  /// below that is not const they call together.
  Training(const Settings& settings, Dataset dataset, const Trainer& trainer,
           Processes& processes = Processes::alone());

  int64_t steps_per_epoch() const { return batches_->steps_per_epoch(); }
  int64_t parameter_count() const;
  int64_t images_in_step(int64_t step) const { return batches_->images_in_step(step); }
  const Dataset& dataset() const { return dataset_; }

  /// Trains on batch `step` of the epoch (both from 0) and adds its losses to the sums.
  void step(int64_t epoch, int64_t step);

  /// The sums of all processes since they were last set; on a GPU this waits for it.
  LossSums sums();
  void set_sums(const LossSums& sums);

  /// The same of what is counted.
  StepCounts counts();
  void set_counts(const StepCounts& counts);

  /// Of a process's own tensors, such as the statistics of normalisation, all processes get rank 0's: those are tested
  /// and written down.
  void share_buffers();

  std::optional<Hits> evaluate(const std::function<bool()>& stop);
  AngleSummary angles() const;
  bool weights_are_finite() const;

  /// The most memory that a process has held so far: the GPU allocator's, on a CPU the process's.
  double peak_memory_mib();

  /// model.*, optimizer.*, random.*, regularizer.*, scaler.*: what a checkpoint holds. It does not say how many
  /// processes there were.
  NamedTensors state() const;

  /// Throws UserError when the file's tensors are not those of this network.
  void load_state(const TensorFile& file, const std::string& path);
  /// What rank 0 has loaded, for all processes.
  void share_state();

 private:
  Batch batch_of(const at::Tensor& drawn, int64_t epoch, int64_t step) const;
  /// Forward, backward, regularizer and update on one batch.
  void learn(const Batch& batch);
  /// The same on this process's piece of a batch of so many images, or with a scaled loss. The regularizer is part of
  /// the loss there: what is averaged, or scaled, is the gradient of both.
  void learn_piece(const Batch& batch, int64_t images_in_batch);
  void update();
  NamedTensors own_state() const;
  std::map<std::string, at::Tensor> regularizer_state() const;
  double own_seconds() const;

  Settings settings_;
  Dataset dataset_;
  std::optional<Batches> batches_;
  std::shared_ptr<ImageClassifier> model_;
  Processes& processes_;
  std::vector<at::Tensor> trained_parameters_;
  std::optional<Sgd> sgd_;
  std::unique_ptr<GradientReducer> reducer_;
  std::optional<GradientScaler> scaler_;
  std::optional<WeightAverage> average_;
  std::optional<Regularizer<AnyObjective>> regularizer_;
  std::optional<Regularizer<>> all_layers_;  ///< for the report: the same layers in every run
  at::Tensor sums_;
  LossSums sums_of_all_;                    ///< in several processes: of the steps before those in `losses_`
  std::vector<at::Tensor> losses_;          ///< float64 [2] a step: this process's part of the sums
  double seconds_counted_ = 0;              ///< of communication, already in counts()
  double communication_seconds_ = 0;        ///< in counts() from before
  std::unique_ptr<CapturedStep> captured_;  ///< where steps are replayed from a CUDA graph
  at::Tensor captured_drawn_;               ///< what it reads: the draws, where they alone make a batch,
  Batch captured_batch_;                    ///< else the batch
};

}  // namespace mma::examples
