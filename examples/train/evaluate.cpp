#include "train/evaluate.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <iomanip>
#include <iostream>

#include "support/process/error.hpp"
#include "train/image_trainer.hpp"
#include "training/models/weights.hpp"
#include "training/run/checkpoint.hpp"
#include "training/run/device.hpp"
#include "training/run/training.hpp"
#include "training/settings/new_run.hpp"

namespace mma::examples {
namespace {

/// The last tensor of a network is the bias of its classifier: one number a class.
void check_classes(const NamedTensors& source, const ImageClassifier& model, const Dataset& dataset,
                   const std::string& file) {
  const std::string bias = parameters_of(model).back().first;
  for (const auto& [name, tensor] : source) {
    if (name == bias && tensor.dim() == 1 && tensor.size(0) != dataset.classes) {
      throw UserError(
          c10::str(file, " distinguishes ", tensor.size(0), " classes, but ", dataset.name, " has ", dataset.classes));
    }
  }
}

}  // namespace

Settings settings_of_evaluation(const Arguments& arguments, const std::optional<RunRecord>& record) {
  Given given = arguments.run.given;
  if (!record) return settings_of_new_run(given);
  const Settings& own = record->settings;
  if (given.contains("model") && given["model"] != own.model) {
    throw UserError(c10::str(*arguments.evaluate, " holds a ", own.model, ", not a ", text(given["model"])));
  }
  const bool other_images = given.contains("dataset") && given["dataset"] != own.dataset;
  for (const OptionRow<Settings>& row : run_options()) {
    if (!row.for_evaluation || given.contains(row.key) || (other_images && row.key == run_option("data").key)) continue;
    given[row.key] = value_of(row, own);
  }
  return settings_of_new_run(given);
}

void evaluate_weights(const Arguments& arguments, std::ostream& stream) {
  const std::string& path = *arguments.evaluate;
  const TensorFile file = read_tensor_file(path, arguments.key.value_or(""));
  const std::optional<RunRecord> record = record_in(file, path);
  const Settings settings = settings_of_evaluation(arguments, record);
  check_device(settings);
  at::set_num_threads(static_cast<int>(settings.threads));

  const Dataset dataset = prepared(image_trainer().load(settings), settings);
  const auto model = make_network(settings, dataset, image_trainer());
  const NamedTensors state = state_of(*model);
  const FittedTensors weights =
      record ? FittedTensors{tested_weights(file, record->settings), ""} : fitted_to(state, file.tensors);
  std::cerr << words_about_skipped(file) << weights.words << std::flush;
  check_classes(weights.tensors, *model, dataset, path);
  load_tensors(weights.tensors, state, path);
  const std::optional<Hits> hits = evaluated(*model, settings, dataset, dataset.test);
  stream << path << ": " << settings.model << " on " << hits->images << " test images of " << settings.dataset
         << std::fixed << std::setprecision(2) << ": top-1 " << hits->top1_percent() << " %, top-5 "
         << hits->top5_percent() << " %\n";
}

}  // namespace mma::examples
