#include "training/settings/table.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <stdexcept>

#include "support/terminal/objectives.hpp"
#include "training/data/datasets.hpp"
#include "training/models/networks.hpp"

namespace mma::examples {
namespace {

using Row = OptionRow<Settings>;
using enum WhenSilent;
using enum OnResume;

constexpr int64_t many = 1'000'000'000;  // steps or images
constexpr int64_t widest_image = 4096;

Choices regularizer_names() {
  Choices names = {"none"};
  for (const NamedObjective& objective : objectives()) names.push_back(objective.name);
  return names;
}

void add_trained(OptionRows<Settings>& rows) {
  const auto add = [&](Row row) {
    row.section = section::trained;
    rows.push_back(std::move(row));
  };
  add({.name = "--model",
       .type = "NAME",
       .help = "The network: " + c10::Join(", ", model_names()),
       .key = "model",
       .member = &Settings::model,
       .when_silent = worked_out,
       .for_evaluation = true});
  add({.name = "--dataset",
       .type = "NAME",
       .help = "The images: " + c10::Join(", ", dataset_names()),
       .key = "dataset",
       .member = &Settings::dataset,
       .when_silent = worked_out,
       .for_evaluation = true});
  add({.name = "--data",
       .type = "DIR",
       .help = "The folder of the images' files, or the one above it: train.bin and test.bin (CIFAR-100),\n"
               "data_batch_1.bin ... (CIFAR-10), or of both torchvision's pickles; wnids.txt, train and val\n"
               "(TinyImageNet, also after the usual scripts); train-images-idx3-ubyte ... (Fashion-MNIST;\n"
               "left out: /usr/share/datasets/fashion-mnist, where Debian has them);\n"
               "train/<class>/<image> and val/<class>/<image>, all of one square size (folder)",
       .key = "data",
       .member = &Settings::data,
       .when_silent = worked_out,
       .on_resume = may_change,
       .for_evaluation = true,
       .of_machine = true});
  add({.name = "--recipe",
       .type = "NAME",
       .help = "A set of values, or a row of the paper's tables with its network, data set and regularizer,\n"
               "see --list-recipes (default: the model's)",
       .key = "recipe",
       .member = &Settings::recipe,
       .when_silent = worked_out,
       .of_machine = true});
  add({.name = "--autoaugment",
       .help = "Also change training images by AutoAugment's policy for CIFAR",
       .key = "autoaugment",
       .member = &Settings::autoaugment,
       .when_silent = recipes,
       .opposite = "--no-autoaugment",
       .opposite_help = "Only crop and mirror them"});
  add({.name = "--padding",
       .type = "N",
       .help = "Move training images by up to N pixels (default: 4)",
       .key = "padding",
       .member = &Settings::padding,
       .when_silent = recipes,
       .allowed = Range::not_below_zero(widest_image),
       .is_newer = true});
  add({.name = "--cutout",
       .type = "N",
       .help = "Also cut a square of N x N pixels out of each training image",
       .key = "cutout",
       .member = &Settings::cutout,
       .when_silent = recipes,
       .allowed = Range::not_below_zero(widest_image)});
  add({.name = "--mean",
       .type = "X,X,X",
       .help = "With --deviation: what normalisation subtracts, a number a channel of pixels in [0, 1]\n"
               "(default: the data set's)",
       .key = "mean",
       .member = &Settings::mean,
       .for_evaluation = true,
       .allowed = Range::not_below_zero()});
  add({.name = "--deviation",
       .type = "X,X,X",
       .help = "With --mean: what it divides by",
       .key = "deviation",
       .member = &Settings::deviation,
       .for_evaluation = true,
       .allowed = Range{.lowest = 0, .without_lowest = true, .expected = "a number above 0 is needed"}});
  add({.name = "--dropout",
       .type = "X",
       .help = "Share of activations that a WRN drops (default: 0)",
       .key = "dropout",
       .member = &Settings::dropout,
       .when_silent = recipes,
       .allowed = Range{
           .lowest = 0, .highest = 1, .without_highest = true, .expected = "a share from 0 to below 1 is needed"}});
  add({.name = "--limit-train",
       .type = "N",
       .help = "Train on only N images, drawn by the seed",
       .key = "limit_train",
       .member = &Settings::limit_train,
       .allowed = Range::at_least(1, many),
       .zero_is_none = true});
  add({.name = "--limit-test",
       .type = "N",
       .help = "Test on only N images, drawn by the seed",
       .key = "limit_test",
       .member = &Settings::limit_test,
       .allowed = Range::at_least(1, many),
       .zero_is_none = true});
}

void add_regularization(OptionRows<Settings>& rows) {
  const auto add = [&](Row row) {
    row.section = section::regularization;
    rows.push_back(std::move(row));
  };
  add({.name = "--regularizer",
       .type = "NAME",
       .help = "mma (default), none, or one of mma-train --list-regularizers",
       .key = "regularizer",
       .member = &Settings::regularizer,
       .when_silent = recipes,
       .allowed = regularizer_names()});
  add({.name = "--coefficient",
       .type = "X",
       .help = "Weight of its loss (default: for mma the recipe's, 0.07, with skip connections 0.03;\n"
               "for the others see that list)",
       .key = "coefficient",
       .member = &Settings::coefficient,
       .when_silent = worked_out,
       .allowed = Range::not_below_zero()});
  add({.name = "--scope",
       .type = "NAME",
       .help = "Its layers: all, hidden, output (default: the recipe's)",
       .key = "scope",
       .member = &Settings::scope,
       .when_silent = recipes,
       .allowed = Choices{"hidden", "output", "all"}});
  add({.name = "--refresh-every",
       .type = "N",
       .help = "Search nearest filters every N steps (default: 1); angles and gradients are exact in between",
       .key = "refresh_every",
       .member = &Settings::refresh_every,
       .allowed = Range::at_least(1, many)});
}

void add_optimization(OptionRows<Settings>& rows) {
  const auto add = [&](Row row) {
    row.section = section::optimization;
    row.when_silent = recipes;
    rows.push_back(std::move(row));
  };
  add({.name = "--epochs",
       .type = "N",
       .help = "Passes over the training images",
       .key = "epochs",
       .member = &Settings::epochs,
       .allowed = Range::at_least(1, 1'000'000)});
  add({.name = "--batch",
       .type = "N",
       .help = "Images a step",
       .key = "batch",
       .member = &Settings::batch,
       .allowed = Range::at_least(1, many)});
  add({.name = "--lr",
       .type = "X",
       .help = "Learning rate of the first epoch",
       .key = "learning_rate",
       .member = &Settings::learning_rate,
       .allowed = Range::not_below_zero()});
  add({.name = "--milestones",
       .type = "N,N",
       .help = "Epochs after which the rate falls, such as 81,122\n"
               "(default: the recipe's; with --epochs at the same fractions of the run)",
       .key = "milestones",
       .member = &Settings::milestones});
  add({.name = "--lr-divisor",
       .type = "X",
       .help = "What it is divided by there",
       .key = "rate_divisor",
       .member = &Settings::rate_divisor,
       .allowed = Range{.lowest = 1, .expected = "a number not below 1 is needed"}});
  add({.name = "--schedule",
       .type = "NAME",
       .help = "How the rate falls: multi-step (default; at the milestones), cosine (to 0 at the end)",
       .key = "schedule",
       .member = &Settings::schedule,
       .allowed = Choices{"multi-step", "cosine"},
       .is_newer = true});
  add({.name = "--warm-up",
       .type = "N",
       .help = "Let the rate rise evenly over the first N epochs (default: 0)",
       .key = "warm_up",
       .member = &Settings::warm_up,
       .allowed = Range{.lowest = 0, .highest = 1'000'000, .expected = "a number of epochs, 0 or more, is needed"},
       .is_newer = true});
  add({.name = "--momentum",
       .type = "X",
       .help = "Momentum",
       .key = "momentum",
       .member = &Settings::momentum,
       .allowed = Range{.lowest = 0,
                        .highest = 1,
                        .without_highest = true,
                        .expected = "a number below 1 is needed, and not below 0"}});
  add({.name = "--weight-decay",
       .type = "X",
       .help = "Weight decay",
       .key = "weight_decay",
       .member = &Settings::weight_decay,
       .allowed = Range::not_below_zero()});
  add({.name = "--decay-filters-only",
       .help = "No weight decay of normalisation and biases: only of convolutions' and linear layers' weights",
       .key = "decay_filters_only",
       .member = &Settings::decay_filters_only,
       .opposite = "--decay-all",
       .opposite_help = "Of all parameters",
       .is_newer = true});
  add({.name = "--label-smoothing",
       .type = "X",
       .help = "Give so much of a label's weight to all classes alike (default: 0)",
       .key = "label_smoothing",
       .member = &Settings::label_smoothing,
       .allowed =
           Range{.lowest = 0, .highest = 1, .without_highest = true, .expected = "a share from 0 to below 1 is needed"},
       .is_newer = true});
  add({.name = "--average",
       .type = "X",
       .help = "Test and export a moving average of the weights: after each step X of it and 1 - X of them,\n"
               "such as 0.999 (default: 0, the weights themselves)",
       .key = "average",
       .member = &Settings::average,
       .for_evaluation = true,
       .allowed =
           Range{.lowest = 0, .highest = 1, .without_highest = true, .expected = "a share from 0 to below 1 is needed"},
       .is_newer = true});
  add({.name = "--nesterov",
       .help = "Nesterov's form of momentum",
       .key = "nesterov",
       .member = &Settings::nesterov,
       .opposite = "--no-nesterov",
       .opposite_help = "The plain form"});
}

void add_run(OptionRows<Settings>& rows) {
  const auto add = [&](Row row) {
    row.section = section::run;
    rows.push_back(std::move(row));
  };
  add({.name = "--checkpoint-steps",
       .type = "N",
       .help = "Write a checkpoint also after each N steps, not only after each epoch",
       .key = "checkpoint_steps",
       .member = &Settings::checkpoint_steps,
       .on_resume = may_change,
       .of_machine = true,
       .allowed = Range::at_least(1, many),
       .zero_is_none = true});
  add({.name = "--seed",
       .type = "N",
       .help = "Seed of all random numbers (default: 1)",
       .key = "seed",
       .member = &Settings::seed,
       .for_evaluation = true});
  add({.name = "--threads",
       .type = "N",
       .help = "CPU threads (default: all cores); the same seed and threads give\n"
               "the same numbers, bit for bit",
       .key = "threads",
       .member = &Settings::threads,
       .when_silent = worked_out,
       .on_resume = may_change,
       .for_evaluation = true,
       .of_machine = true,
       .allowed = Range::at_least(1, 4096)});
  add({.name = "--device",
       .type = "NAME",
       .help = "cpu (default), cuda",
       .key = "device",
       .member = &Settings::device,
       .on_resume = may_change,
       .of_machine = true,
       .allowed = Choices{"cpu", "cuda"}});
  add({.name = "--precision",
       .type = "NAME",
       .help = "Of convolutions and matrix products: float32 (default), bf16 or fp16 (autocast; the weights,\n"
               "their gradients, the loss and the regularizer stay in float32; with fp16 the loss is scaled,\n"
               "and a step whose gradients overflow is left out)",
       .key = "precision",
       .member = &Settings::precision,
       .for_evaluation = true,
       .allowed = Choices{"float32", "bf16", "fp16"}});
  add({.name = "--channels-last",
       .help = "Keep a pixel's channels side by side in memory (default on a CPU, where it measured 1.1 to\n"
               "1.3 times as fast for ResNet20 and VGG11, and with bf16; not measured on a GPU)",
       .key = "channels_last",
       .member = &Settings::channels_last,
       .when_silent = worked_out,
       .for_evaluation = true,
       .of_machine = true,
       .opposite = "--no-channels-last",
       .opposite_help = "Keep each channel's pixels side by side"});
  add({.name = "--deterministic",
       .help = "Refuse every operation whose numbers may differ from run to run (default: only cuDNN is held to that)",
       .key = "deterministic",
       .member = &Settings::deterministic,
       .of_machine = true,
       .is_newer = true});
  add({.name = "--cudnn-benchmark",
       .help = "Let cuDNN try its algorithms and take the fastest; two runs then differ in their last bits",
       .key = "cudnn_benchmark",
       .member = &Settings::cudnn_benchmark,
       .of_machine = true,
       .is_newer = true});
  add({.name = "--sync-batch-norm",
       .help = "In several processes: normalise over the whole batch, not over each process's piece of it",
       .key = "sync_batch_norm",
       .member = &Settings::sync_batch_norm,
       .is_newer = true});
  add({.name = "--timeout",
       .type = "SECONDS",
       .help = "In several processes: end all where one gives no sign of life or does not go on for so long\n"
               "(default: 300)",
       .key = "timeout",
       .member = &Settings::timeout,
       .on_resume = may_change,
       .of_machine = true,
       .allowed = Range::at_least(1, 86'400),
       .is_newer = true});
  add({.name = "--cuda-graph",
       .help = "With --device cuda: capture the step in a CUDA graph and replay it (default wherever a\n"
               "graph can hold the step: 1.6 to 1.7 times as fast for VGG19-BN and ResNet56 on an H100)",
       .key = "cuda_graph",
       .member = &Settings::cuda_graph,
       .when_silent = worked_out,
       .on_resume = may_change,
       .of_machine = true,
       .opposite = "--no-cuda-graph",
       .opposite_help = "Launch each step's operations one by one"});
}

}  // namespace

const OptionRows<Settings>& run_options() {
  static const OptionRows<Settings> rows = [] {
    OptionRows<Settings> all;
    add_trained(all);
    add_regularization(all);
    add_optimization(all);
    add_run(all);
    return all;
  }();
  return rows;
}

const OptionRow<Settings>& run_option(const std::string& key) {
  const auto row = std::ranges::find(run_options(), key, [](const Row& each) { return std::string(each.key); });
  if (row == run_options().end()) throw std::logic_error("no option of a run has the key " + key);
  return *row;
}

}  // namespace mma::examples
