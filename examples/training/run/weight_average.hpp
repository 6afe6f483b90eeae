// An exponential moving average of a network's weights and of its normalisation's statistics, which is tested in their
// place (Polyak and Juditsky 1992 average evenly).
#pragma once

#include "training/models/weights.hpp"

namespace mma::examples {

class WeightAverage {
 public:
  /// Begins with the weights as they are. `decay`: how much of the average stays at each step.
  WeightAverage(const torch::nn::Module& model, double decay);

  /// average = decay * average + (1 - decay) * weights; what is not a floating-point number is copied.
  void add(const torch::nn::Module& model);

  /// Under the names that the weights have in a state dict.
  const NamedTensors& state() const { return average_; }

 private:
  friend class AverageInPlace;

  NamedTensors average_;
  double decay_;
};

/// While it lives the network has the average's numbers, the average the network's.
class AverageInPlace {
 public:
  AverageInPlace(WeightAverage& average, torch::nn::Module& model);
  ~AverageInPlace();
  AverageInPlace(const AverageInPlace&) = delete;
  AverageInPlace& operator=(const AverageInPlace&) = delete;

 private:
  void swap() const;

  WeightAverage& average_;
  torch::nn::Module& model_;
};

}  // namespace mma::examples
