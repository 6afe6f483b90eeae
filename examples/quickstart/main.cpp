// The smallest training loop with MMA regularization: a two-layer network on random data.
#include <torch/nn.h>
#include <torch/optim/sgd.h>
#include <mma/mma.hpp>

#include <iostream>

int main() {
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(20, 64), torch::nn::ReLU(), torch::nn::Linear(64, 10));
  mma::Regularizer<> regularizer(*model, mma::Options().coefficient(0.07));
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));

  const auto images = torch::randn({512, 20});
  const auto labels = images.slice(1, 0, 10).argmax(1);
  std::cout << "before\n" << regularizer.report();
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    auto loss = torch::nn::functional::cross_entropy(model->forward(images), labels);
    loss = loss + regularizer.loss();
    loss.backward();
    optimizer.step();
  }
  std::cout << "after\n" << regularizer.report();
}
