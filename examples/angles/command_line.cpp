#include "angles/command_line.hpp"

#include <CLI/CLI.hpp>
#include <charconv>

#include "mma/version.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"

namespace mma::examples {
namespace {

constexpr const char* about =
    "Shows how the weight vectors of each layer of a trained network spread over the sphere: the minimal angle\n"
    "between two of them, the mean angle to the nearest one, and how many pairs are alike.";

constexpr const char* footer =
    "FILE is a safetensors file, a checkpoint of mma-train, or what torch.save, LibTorch's torch::save or TorchScript\n"
    "wrote: a state dict, or a checkpoint with one in it, a module. Nothing in it is ever executed. docs/files.md "
    "lists\n"
    "what is read. Reparametrised and pruned layers are shown as the weight they make.\n"
    "A GLOB (*, ?, [..]) stands for names of layers, such as 'layer1.*'. The options that take one may be repeated.\n"
    "\n"
    "Examples:\n"
    "  mma-angles resnet20.safetensors --exclude fc --plot angles.png\n"
    "  mma-angles runs/none/checkpoint.safetensors runs/mma/checkpoint.safetensors --only features.0 --plot first.png";

/// "GLOB=N"
std::pair<std::string, int64_t> groups_of(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::string number = equals == std::string::npos ? "" : text.substr(equals + 1);
  int64_t groups = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), groups);
  if (equals == 0 || error != std::errc() || end != number.data() + number.size() || groups < 1) {
    throw UserError("--groups " + text + ": expected GLOB=N with N of at least 1, such as 'layer1.*=32'");
  }
  return {text.substr(0, equals), groups};
}

}  // namespace

std::optional<AnglesArguments> read_angles_command_line(int argc, char** argv) {
  AnglesArguments arguments;
  std::vector<std::string> groups;
  CLI::App app{about, "mma-angles"};
  app.footer(footer);
  app.get_formatter()->column_width(28);
  app.set_version_flag("--version", std::string(version));
  app.add_option("FILE", arguments.files, "The weights; several files stand in one table and one picture")->required();
  app.add_flag("--json", arguments.json, "Print JSON instead of a table, with a histogram of the cosines");
  app.add_option("--plot", arguments.plot, "Draw the histograms of the pairwise cosines into this PNG file")
      ->type_name("PNG");
  app.add_option("--cosine", arguments.cosine, "Count the pairs with a cosine above X (0.2 if left out)")
      ->type_name("X");
  app.add_option("--key", arguments.key, "Where the tensors lie in a file with several dictionaries of them: a.b")
      ->type_name("KEY");
  app.add_option("--include", arguments.patterns.include, "Layers whose names do not end in 'weight'")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--exclude", arguments.patterns.exclude, "Leave these layers out")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--only", arguments.patterns.only, "Show these layers alone")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--transposed", arguments.patterns.transposed, "These are transposed convolutions")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--groups", groups, "These are convolutions with N groups; their filters are compared within a group")
      ->type_name("GLOB=N")
      ->allow_extra_args(false);
  if (!parsed(app, argc, argv)) return std::nullopt;
  if (!(arguments.cosine >= -1 && arguments.cosine <= 1)) throw UserError("--cosine: expected a number from -1 to 1");
  for (const std::string& text : groups) arguments.patterns.groups.push_back(groups_of(text));
  return arguments;
}

}  // namespace mma::examples
