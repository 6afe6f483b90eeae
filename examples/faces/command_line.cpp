#include "faces/command_line.hpp"

#include <c10/util/StringUtil.h>

#include <CLI/CLI.hpp>

#include "faces/networks.hpp"
#include "mma/version.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"

namespace mma::examples {
namespace {

constexpr const char* about = "Trains networks that tell faces apart, and verifies how well they do.";

constexpr const char* footer =
    "Example:\n"
    "  mma-faces train --data lfw --model ir-small --grey --min-images 4 --exclude-pairs lfw/pairs.txt --out "
    "runs/faces\n"
    "  mma-faces verify runs/faces/checkpoint.safetensors --pairs lfw/pairs.txt --images lfw --roc roc.png\n"
    "\n"
    "mma-faces train --help and mma-faces verify --help say the rest.";

constexpr const char* verify_footer =
    "The protocol is that of LFW: for each fold the threshold on the distance of a pair's features is chosen on the\n"
    "other folds, the accuracy taken on this one; reported are the mean and its standard error. A feature is the\n"
    "network's for the image plus that for the mirrored image; their distance is the squared one of unit vectors,\n"
    "2 - 2 cosine. A pair is taken for one identity below the threshold; of thresholds that are right equally often\n"
    "the smallest is taken.\n"
    "\n"
    "Images are <DIR>/<name>/<name>_0001.jpg, .jpeg, .png or .pgm; those of other sizes are brought to 112 x 112.\n"
    "Pairs of one fold, as in pairsDevTest.txt, are judged by the best threshold for themselves.\n"
    "A .bin file is a pickle; it is read as data, nothing in it is executed. Its folds are equal parts in its order.\n"
    "\n"
    "Examples:\n"
    "  mma-faces verify runs/faces/checkpoint.safetensors --pairs lfw/pairs.txt --images lfw --folds 9,10\n"
    "  mma-faces verify backbone.pt --model ir-50 --bin lfw.bin cfp_fp.bin agedb_30.bin --thresholds grid --roc "
    "roc.png\n"
    "  mma-faces verify --features features.safetensors --pairs lfw/pairs.txt --json";

void add_verify(CLI::App& app, VerifyArguments& arguments) {
  app.footer(verify_footer);
  app.get_formatter()->column_width(30);
  app.add_option("WEIGHTS", arguments.weights,
                 "A checkpoint of mma-faces train, or with --model a state dict in safetensors or by\n"
                 "torch.save, or a module by torch::save")
      ->type_name("FILE");
  app.add_option("--key", arguments.key, "Where the tensors lie in a file with several dictionaries of them: a.b")
      ->type_name("KEY");
  app.add_option("--features", arguments.features,
                 "Instead of WEIGHTS: features in safetensors, a tensor 'features' [images, dimension];\n"
                 "the metadata 'images' names them, a line each, such as Abel_Pacheco/Abel_Pacheco_0001;\n"
                 "without it two rows for each pair")
      ->type_name("FILE");
  app.add_option("--pairs", arguments.pairs,
                 "With --images: LFW's pairs.txt or pairsDevTest.txt, or Kaggle's pairs.csv")
      ->type_name("FILE");
  app.add_option("--images", arguments.images, "The folder with a folder of images for each identity")
      ->type_name("DIR");
  app.add_option("--bin", arguments.bins, "Files of insightface: lfw.bin, cfp_fp.bin, agedb_30.bin")->type_name("FILE");
  app.add_option("--model", arguments.model,
                 "The network of a state dict: " + c10::Join(", ", embedding_network_names()))
      ->type_name("NAME");
  app.add_flag_callback(
      "--no-flip", [&arguments] { arguments.flip = false; }, "Leave the mirrored images out");
  app.add_option("--thresholds", arguments.thresholds,
                 "Which are tried: midpoints (default; between neighbouring distances, so all that differ),\n"
                 "grid (0, 0.01, ..., 3.99, as insightface does)")
      ->type_name("NAME");
  app.add_option("--folds", arguments.folds, "Report these folds alone, such as 9,10")
      ->type_name("N,N")
      ->delimiter(',');
  app.add_option("--threshold-folds", arguments.threshold_folds,
                 "Choose thresholds on these folds alone, but never on the one reported")
      ->type_name("N,N")
      ->delimiter(',');
  app.add_option("--number-of-folds", arguments.number_of_folds, "Of a .bin file (default: 10)")->type_name("N");
  app.add_option("--roc", arguments.roc, "Draw true accepts by false accepts")->type_name("PNG");
  app.add_flag("--json", arguments.json, "Print JSON instead of a table");
  app.add_option("--save-features", arguments.save_features, "Write the features, as --features reads them")
      ->type_name("FILE");
  app.add_option("--batch", arguments.batch, "Images at a time (default: 64)")->type_name("N");
  app.add_option("--threads", arguments.threads, "CPU threads (default: all cores)")->type_name("N");
  app.add_option("--device", arguments.device, "cpu (default), cuda")->type_name("NAME");
}

}  // namespace

std::optional<FacesArguments> read_faces_command_line(int argc, char** argv) {
  VerifyArguments verify;
  FaceTrainArguments train;
  train.common.words.assign(argv, argv + argc);
  CLI::App app{about, "mma-faces"};
  app.footer(footer);
  app.get_formatter()->column_width(30);
  app.set_version_flag("--version", std::string(version));
  app.require_subcommand(0, 1);
  CLI::App* verify_app = app.add_subcommand("verify", "Measure a network on pairs of faces, by LFW's protocol");
  add_verify(*verify_app, verify);
  CLI::App* train_app = app.add_subcommand("train", "Train a network on image folders by ArcFace or ArcFace+");
  add_face_train_options(*train_app, train);
  if (!parsed(app, argc, argv)) return std::nullopt;
  if (verify_app->parsed()) return verify;
  if (train_app->parsed()) return train;
  std::cout << app.help();
  return std::nullopt;
}

}  // namespace mma::examples
