// A training of a second, without files: its images, its settings.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>

#include <string>

#include "training/data/dataset.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples::tests {

/// 20 noisy pictures whose brightness tells their class: three batches of 8, the last one has 4.
inline Dataset tiny_dataset() {
  at::manual_seed(3);
  Dataset dataset;
  dataset.name = "tiny";
  dataset.classes = 10;
  dataset.mean = {0.5, 0.5, 0.5};
  dataset.deviation = {0.25, 0.25, 0.25};
  for (LabelledImages* split : {&dataset.train, &dataset.test}) {
    split->labels = at::randint(10, {20}, at::kLong);
    split->images =
        (split->labels.view({-1, 1, 1, 1}) * 20 + at::randint(32, {20, 3, 32, 32}, at::kLong)).to(at::kByte);
  }
  return dataset;
}

inline Settings tiny_settings(const std::string& device = "cpu") {
  Settings settings;
  settings.model = "resnet20";
  settings.dataset = "tiny";
  settings.coefficient = 0.03;
  settings.epochs = 4;
  settings.batch = 8;
  settings.learning_rate = 0.1;
  settings.milestones = {3};
  settings.momentum = 0.9;
  settings.weight_decay = 1e-4;
  settings.device = device;
  return settings;
}

}  // namespace mma::examples::tests
