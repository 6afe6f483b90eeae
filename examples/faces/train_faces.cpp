#include "faces/train_faces.hpp"

#include <c10/util/StringUtil.h>

#include <cstring>

#include "faces/face_trainer.hpp"
#include "support/process/error.hpp"
#include "training/run/run.hpp"
#include "training/settings/new_run.hpp"
#include "training/settings/row_options.hpp"

namespace mma::examples {
namespace {

constexpr const char* footer =
    "Without --regularizer none this is ArcFace+ (Eq 15): MMA on the classifier's rows alone, coefficient 0.03.\n"
    "\n"
    "Examples:\n"
    "  mma-faces train --data faces --model ir-50 --device cuda --out runs/arcface-plus\n"
    "  mma-faces train --data lfw --model ir-small --grey --min-images 4 --exclude-pairs lfw/pairs.txt \\\n"
    "                  --exclude-folds 9,10 --epochs 10 --batch 64 --out runs/lfw\n"
    "  mma-faces train --resume --out runs/lfw\n"
    "\n"
    "A run's folder is as mma-train's: mma-train --compare shows several side by side.";

/// The CASIA schedule of the ArcFace paper, Section 3.1: 32,000 steps of 512 images, the rate divided by 10 after
/// 20,000 and 28,000; in epochs of CASIA's 490,623 images.
Recipe face_recipe() {
  Recipe recipe;
  recipe.name = "arcface";
  recipe.values.epochs = 34;
  recipe.values.batch = 512;
  recipe.values.learning_rate = 0.1;
  recipe.values.milestones = {21, 29};
  recipe.values.momentum = 0.9;
  recipe.values.weight_decay = 5e-4;
  recipe.values.padding = 0;
  recipe.values.scope = "output";
  recipe.values.coefficient = 0.03;
  return recipe;
}

std::string default_face_out(const Settings& settings) {
  return c10::str("runs/", settings.model, "-faces-", settings.regularizer, "-seed", settings.seed);
}

/// The options of a section that face networks have beside the rest.
void add_face_options(CLI::App& app, const char* section, Given& given) {
  for (const OptionRow<FaceSettings>& row : face_options()) {
    if (std::strcmp(row.section, section) == 0) add_option(app, row, given);
  }
}

/// Writes into the settings what may change between the parts of a run, and refuses what contradicts it.
void apply_to_resumed_face_run(const FaceTrainArguments& arguments, Settings& settings) {
  const std::string& out = *arguments.common.out;
  FaceSettings faces = face_settings(settings);
  apply_on_resume(face_options(), arguments.faces, out, faces);
  apply_to_resumed_run(arguments.common.given, out, settings);
}

}  // namespace

void add_face_train_options(CLI::App& app, FaceTrainArguments& arguments) {
  app.footer(footer);
  app.get_formatter()->column_width(26);
  add_run_option(app, "data",
                 "The folder of the identities: <identity>/<image>.jpg, .jpeg, .png or .pgm, faces upright and of one\n"
                 "size in the image; brought to 112 x 112",
                 arguments.common);
  add_run_option(app, "model", "The embedding network: " + c10::Join(", ", embedding_network_names()),
                 arguments.common);
  add_face_options(app, section::trained, arguments.faces);
  add_run_option(app, "padding", "Move training images by up to N pixels (default: 0)", arguments.common);
  add_run_option(app, "dropout", "Before the embedding's layer (default: 0)", arguments.common);
  add_face_options(app, head_section, arguments.faces);
  add_common_options(app, arguments.common, "runs/MODEL-faces-REGULARIZER-seedN");
}

Settings settings_of_new_face_run(const FaceTrainArguments& arguments) {
  const auto& known = embedding_network_names();
  const std::string list = c10::Join(", ", known);
  const std::optional<std::string> model = arguments.common.word("model");
  require(model.has_value(), "--model is needed: one of " + list);
  check_value("--model", *model, known);
  require(arguments.common.word("data").has_value(),
          "--data is needed: the folder that holds a folder for each identity");
  FaceSettings faces;
  check_given(face_options(), arguments.faces);
  apply(face_options(), arguments.faces, faces);
  check(faces);
  Settings settings = settings_by_recipe(arguments.common.given, face_recipe());
  settings.dataset = faces_dataset;
  set_face_settings(faces, settings);
  require(settings.batch >= 2, "--batch 1: at least 2 is needed, as the embedding is normalised over the batch");
  return settings;
}

int train_faces(const FaceTrainArguments& arguments, Progress& progress) {
  const RunArguments& common = arguments.common;
  RunOrder order{{}, common.exported, common.words};
  if (common.resume) {
    require(common.out.has_value(), "--resume needs --out: the folder of the run to go on with");
    order.folder.path = *common.out;
    const auto change = [&](Settings& settings) { apply_to_resumed_face_run(arguments, settings); };
    return resume_run(order, change, face_trainer(), progress);
  }
  if (exports_without_training(common)) {
    export_weights(RunFolder{*common.out}.checkpoint(), *common.exported);
    return 0;
  }
  const Settings settings = settings_of_new_face_run(arguments);
  order.folder.path = common.out.value_or(default_face_out(settings));
  return start_run(settings, order, face_trainer(), progress);
}

}  // namespace mma::examples
