// One of several processes of data_parallel_test: computes its piece of the gradient of a small network and of a
// synchronised normalisation, in float64, and writes what came out. Started by itself it computes the whole.
#include <ATen/Functions.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <mma/mma.hpp>

#include "normalised_cases.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"
#include "training/distributed/gradient_reducer.hpp"
#include "training/distributed/synchronised_norm.hpp"
#include "training/models/normalisation.hpp"
#include "training/models/weights.hpp"
#include "training/run/batches.hpp"

namespace {

using namespace mma::examples;

constexpr int64_t images = 17, classes = 5;

/// Five matrices of different cost, so that four processes have a share each.
struct Net : torch::nn::Module {
  Net() {
    const std::vector<int64_t> sizes = {6, 12, 9, 16, 7, classes};
    for (size_t k = 0; k + 1 < sizes.size(); ++k) {
      layers.push_back(register_module("fc" + std::to_string(k), torch::nn::Linear(sizes[k], sizes[k + 1])));
    }
    norm = register_module("norm", torch::nn::BatchNorm1d(12));
    to(at::kDouble);
  }

  at::Tensor forward(const at::Tensor& rows) {
    at::Tensor hidden = batch_norm(norm, layers[0](rows));
    for (size_t k = 1; k < layers.size(); ++k) hidden = layers[k](at::tanh(hidden));
    return hidden;
  }

  std::vector<torch::nn::Linear> layers;
  torch::nn::BatchNorm1d norm{nullptr};
};

/// The step of mma-train on this process's piece, and each parameter's gradient.
void add_gradients(Processes& processes, NamedTensors& results) {
  at::manual_seed(1);
  Net net;
  const at::Tensor rows = at::randn({images, 6}, at::kDouble), labels = at::randint(classes, {images}, at::kLong);
  const Piece piece = piece_of(images, processes.rank(), processes.count());
  const SynchronisedNorm whole_batch(processes);
  const at::Tensor logits = net.forward(rows.narrow(0, piece.first, piece.count));
  const at::Tensor sum =
      at::cross_entropy_loss(logits, labels.narrow(0, piece.first, piece.count), {}, at::Reduction::Sum);
  mma::Regularizer<> regularizer(net, {}, mma::Options().share(processes.rank(), processes.count()));
  const at::Tensor loss =
      sum * (static_cast<double>(processes.count()) / static_cast<double>(images)) + regularizer.loss();
  if (processes.are_several()) {
    GradientReducer(net.parameters(), processes).backward(loss);
  } else {
    loss.backward();
  }
  for (const auto& [name, parameter] : parameters_of(net)) results.emplace_back("gradient." + name, parameter.grad());
}

/// What normalised_cases.hpp asks for, on this process's piece of each batch.
void add_normalised(Processes& processes, NamedTensors& results) {
  for (size_t k = 0; k < mma::tests::normalised_cases().size(); ++k) {
    const mma::tests::NormalisedCase whole = mma::tests::normalised_cases()[k];
    const Piece piece = piece_of(whole.images.size(0), processes.rank(), processes.count());
    const NormState state{whole.weight.clone().set_requires_grad(true),
                          whole.bias.clone().set_requires_grad(true),
                          at::zeros_like(whole.weight),
                          at::ones_like(whole.weight),
                          at::zeros({}, at::kLong),
                          0.1,
                          1e-5};
    const at::Tensor mine = whole.images.narrow(0, piece.first, piece.count).clone().set_requires_grad(true);
    const at::Tensor normal = synchronised_batch_norm(mine, state, processes);
    (normal * whole.slope.narrow(0, piece.first, piece.count)).sum().backward();
    const std::string of_case = "case" + std::to_string(k) + ".";
    results.emplace_back(of_case + "normal", normal.detach());
    results.emplace_back(of_case + "images", mine.grad());
    results.emplace_back(of_case + "weight", state.weight.grad());
    results.emplace_back(of_case + "bias", state.bias.grad());
    results.emplace_back(of_case + "mean", state.running_mean);
    results.emplace_back(of_case + "variance", state.running_var);
  }
}

int work(const std::string& folder, Processes& processes) {
  processes.connect("cpu");
  TensorFile file;
  add_gradients(processes, file.tensors);
  if (processes.are_several()) add_normalised(processes, file.tensors);
  for (auto& [name, tensor] : file.tensors) tensor = tensor.contiguous();
  write_tensor_file(folder + "/" + std::to_string(processes.rank()) + ".safetensors", file);
  return 0;
}

}  // namespace

int main(int, char** argv) {
  return run_program("data_parallel_worker", [&] {
    const auto launch = launch_of_environment();
    if (!launch) return work(argv[1], Processes::alone());
    Processes processes(*launch, "data_parallel_worker", 60);
    return processes.run([&] { return work(argv[1], processes); });
  });
}
