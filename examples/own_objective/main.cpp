// An objective of one's own: the soft minimum of the angles, to which all neighbours of a row contribute,
//   l = -(1/n) sum_i softmin_{j != i} theta_ij,   softmin = -t log sum exp(-theta / t)
// Towards t = 0 it is MMA's minimal angle. A network of two layers is trained with it on random data.
#include <torch/nn.h>
#include <torch/optim/sgd.h>
#include <mma/mma.hpp>

#include <cstdio>

struct SoftMinimalAngle {
  double temperature = 0.1;  // t, in radians

  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {  // [b, n, d], [b, n] -> [b]
    const at::Tensor unit = rows / rows.norm(2, -1, true).clamp_min(1e-12);
    const at::Tensor angles = unit.bmm(unit.transpose(1, 2)).clamp(-0.99999, 0.99999).acos();
    const at::Tensor itself = at::eye(rows.size(1), usable.options()).unsqueeze(0);
    const at::Tensor left_out = itself.logical_or(usable.logical_not().unsqueeze(1));
    const at::Tensor softmin = (angles.masked_fill(left_out, 100) / -temperature).logsumexp(-1) * -temperature;
    const at::Tensor counts = usable.logical_and(usable.sum(-1, true) >= 2);
    return -softmin.masked_fill(counts.logical_not(), 0).sum(-1) / counts.sum(-1).clamp_min(1);
  }
};

int main() {
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(20, 64), torch::nn::ReLU(), torch::nn::Linear(64, 10));
  mma::Regularizer<SoftMinimalAngle> regularizer(*model, SoftMinimalAngle{.temperature = 0.05});
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto minimal_angle = [&] { return mma::degrees(regularizer.report().layers.front().minimal_angle); };

  const auto images = torch::randn({512, 20});
  const auto labels = images.slice(1, 0, 10).argmax(1);
  const double before = minimal_angle();
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    auto loss = torch::nn::functional::cross_entropy(model->forward(images), labels);
    loss = loss + regularizer.loss();
    loss.backward();
    optimizer.step();
  }
  std::printf("minimal angle of the first layer: before %.1f degrees, after %.1f\n", before, minimal_angle());
}
