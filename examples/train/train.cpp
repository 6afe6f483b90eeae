#include "train/train.hpp"

#include "support/process/error.hpp"
#include "train/image_trainer.hpp"
#include "training/run/run.hpp"
#include "training/settings/new_run.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

/// Where --resume looks: --out, or where a run of these arguments goes without it.
fs::path folder_to_resume(const RunArguments& arguments) {
  if (!arguments.out && !arguments.given.contains("model"))
    throw UserError("--resume needs --out: the folder of the run to go on with");
  return arguments.out ? fs::path(*arguments.out) : fs::path(default_out(settings_of_new_run(arguments.given)));
}

}  // namespace

int train(const RunArguments& arguments, Progress& progress) {
  RunOrder order{{}, arguments.exported, arguments.words};
  if (arguments.resume) {
    order.folder.path = folder_to_resume(arguments);
    const auto change = [&](Settings& settings) {
      apply_to_resumed_run(arguments.given, order.folder.path.string(), settings);
    };
    return resume_run(order, change, image_trainer(), progress);
  }
  const Settings settings = settings_of_new_run(arguments.given);
  order.folder.path = arguments.out.value_or(default_out(settings));
  return start_run(settings, order, image_trainer(), progress);
}

}  // namespace mma::examples
