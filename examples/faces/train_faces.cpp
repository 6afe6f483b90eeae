#include "faces/train_faces.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "faces/face_trainer.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"
#include "training/run/run.hpp"

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
  recipe.epochs = 34;
  recipe.batch = 512;
  recipe.milestones = {21, 29};
  recipe.weight_decay = 5e-4;
  recipe.padding = 0;
  recipe.scope = "output";
  recipe.coefficient = 0.03;
  return recipe;
}

void require(bool condition, const std::string& sentence) {
  if (!condition) throw UserError(sentence);
}

void check_faces(const FaceSettings& faces) {
  require(faces.embedding >= 0, c10::str("--embedding ", faces.embedding, ": at least 1 is needed"));
  require(std::isfinite(faces.angle_factor) && faces.angle_factor > 0,
          c10::str("--angle-factor ", faces.angle_factor, ": a number above 0 is needed"));
  require(faces.angular_margin >= 0 && faces.angular_margin < std::numbers::pi,
          c10::str("--margin ", faces.angular_margin, ": radians from 0 to below 3.14 are needed"));
  require(std::isfinite(faces.cosine_margin) && faces.cosine_margin >= 0,
          c10::str("--cosine-margin ", faces.cosine_margin, ": a number not below 0 is needed"));
  require(std::isfinite(faces.scale) && faces.scale > 0,
          c10::str("--scale ", faces.scale, ": a number above 0 is needed"));
  require(faces.minimum_images >= 1, c10::str("--min-images ", faces.minimum_images, ": at least 1 is needed"));
  require(faces.hold_out >= 0, c10::str("--hold-out ", faces.hold_out, ": a number not below 0 is needed"));
  require(faces.exclude_folds.empty() || !faces.exclude_pairs.empty(),
          "--exclude-folds belongs to --exclude-pairs, the pairs.txt that has these folds");
}

std::string default_face_out(const Settings& settings) {
  return c10::str("runs/", settings.model, "-faces-", settings.regularizer, "-seed", settings.seed);
}

void add_face_options(CLI::App& app, FaceTrainArguments& arguments) {
  OptionSection section(app, "What is trained");
  section.option("--data", "DIR", arguments.common.data,
                 "The folder of the identities: <identity>/<image>.jpg, .jpeg, .png or .pgm, faces upright and of one\n"
                 "size in the image; brought to 112 x 112");
  section.option("--model", "NAME", arguments.common.model,
                 "The embedding network: " + c10::Join(", ", embedding_network_names()));
  section.option("--embedding", "N", arguments.faces.embedding,
                 "Dimension of a face's feature (default: 512, ir-small's 128)");
  section.flag(
      "--grey", [&arguments] { arguments.grey = true; }, "Images of one channel (default: colour, also of grey files)");
  section.option("--min-images", "N", arguments.faces.minimum_images,
                 "Leave out identities with fewer images (default: 2)");
  section.option("--hold-out", "N", arguments.faces.hold_out,
                 "Test on the last N images of each identity: top-1 among the identities (default: 0)");
  section.option("--exclude-pairs", "FILE", arguments.faces.exclude_pairs,
                 "Leave out everybody whom this pairs.txt names");
  section.option("--exclude-folds", "N,N", arguments.faces.exclude_folds, "Only those of its folds N,N")
      ->delimiter(',');
  section.flag(
      "--skip-bad", [&arguments] { arguments.faces.skip_bad = true; },
      "Name images that cannot be read and go on without them");
  section.option("--padding", "N", arguments.common.padding, "Move training images by up to N pixels (default: 0)");
  section.option("--dropout", "X", arguments.common.dropout, "Before the embedding's layer (default: 0)");
}

void add_head_options(CLI::App& app, FaceTrainArguments& arguments) {
  OptionSection section(app, "The head: scale * (cos(angle-factor * theta + margin) - cosine-margin) for the label");
  section.option("--margin", "X", arguments.faces.angular_margin, "ArcFace's, in radians (default: 0.5)");
  section.option("--angle-factor", "X", arguments.faces.angle_factor, "SphereFace's (default: 1)");
  section.option("--cosine-margin", "X", arguments.faces.cosine_margin, "CosFace's (default: 0)");
  section.option("--scale", "X", arguments.faces.scale, "Length of the embeddings (default: 64)");
}

}  // namespace

void check_face_train_options(const CLI::App& app) {
  if (app.get_option("--resume")->count() == 0) return;
  for (const char* name :
       {"--model", "--embedding", "--grey", "--min-images", "--hold-out", "--exclude-pairs", "--exclude-folds",
        "--skip-bad", "--margin", "--angle-factor", "--cosine-margin", "--scale"}) {
    if (app.get_option(name)->count() == 0) continue;
    throw UserError(c10::str(name, " belongs to a new run: leave it out to resume, or choose another --out"));
  }
}

void add_face_train_options(CLI::App& app, FaceTrainArguments& arguments) {
  app.footer(footer);
  app.get_formatter()->column_width(26);
  add_face_options(app, arguments);
  add_head_options(app, arguments);
  add_regularizer_options(app, arguments.common);
  add_optimizer_options(app, arguments.common);
  add_machine_options(app, arguments.common, "runs/MODEL-faces-REGULARIZER-seedN");
}

Settings settings_of_new_face_run(const FaceTrainArguments& arguments) {
  const auto& known = embedding_network_names();
  const std::string list = c10::Join(", ", known);
  require(arguments.common.model.has_value(), "--model is needed: one of " + list);
  require(std::ranges::find(known, *arguments.common.model) != known.end(),
          "--model " + *arguments.common.model + ": one of " + list + " is needed");
  require(arguments.common.data.has_value(), "--data is needed: the folder that holds a folder for each identity");
  Settings settings;
  settings.model = *arguments.common.model;
  settings.dataset = faces_dataset;
  settings.data = *arguments.common.data;
  settings.faces = arguments.faces;
  settings.faces->channels = arguments.grey ? 1 : 3;
  check_faces(*settings.faces);
  complete(settings, arguments.common, face_recipe());
  require(settings.batch >= 2, "--batch 1: at least 2 is needed, as the embedding is normalised over the batch");
  return settings;
}

int train_faces(const FaceTrainArguments& arguments, Progress& progress) {
  const Arguments& common = arguments.common;
  RunOrder order{{}, common.exported, common.words};
  if (common.resume) {
    require(common.out.has_value(), "--resume needs --out: the folder of the run to go on with");
    order.folder.path = *common.out;
    const auto change = [&](Settings& settings) { apply_to_resumed_run(common, *common.out, settings); };
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
