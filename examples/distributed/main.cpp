// A face network trained by several processes: the network on all of them with averaged gradients, its classifier's
// rows sharded over them. On GPUs c10d::ProcessGroupNCCL takes Gloo's place.
//
//   torchrun --no-python --nproc-per-node 2 build-demo/bin/mma-distributed-example
#include <torch/nn.h>
#include <torch/optim/sgd.h>
#include <mma/distributed.hpp>
#include <mma/mma.hpp>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr int64_t identities = 200, embedding = 32, batch = 64, steps = 60;

/// What the one who started this process says, as torchrun does.
std::string told(const char* name) {
  const char* value = std::getenv(name);
  TORCH_CHECK(value != nullptr, "mma-distributed-example: ", name, " is not set; expected to be started by torchrun.");
  return value;
}

/// Where the processes find each other: a file on one machine, or an address.
c10::intrusive_ptr<c10d::Store> make_store(int rank, int count) {
  if (const char* file = std::getenv("STORE_FILE")) return c10::make_intrusive<c10d::FileStore>(file, count);
  c10d::TCPStoreOptions options;
  const char* torchruns = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  options.isServer = rank == 0 && (torchruns == nullptr || std::string(torchruns) != "True");  // torchrun has made it
  options.port = static_cast<uint16_t>(std::stoi(told("MASTER_PORT")));
  return c10::make_intrusive<c10d::TCPStore>(told("MASTER_ADDR"), options);
}

c10::intrusive_ptr<c10d::ProcessGroup> make_group(int rank, int count) {
  const auto options = c10d::ProcessGroupGloo::Options::create();
  options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
  auto group = c10::make_intrusive<c10d::ProcessGroup>(rank, count);
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::GLOO,
                    c10::make_intrusive<c10d::ProcessGroupGloo>(make_store(rank, count), rank, count, options));
  group->setDefaultBackend(c10d::ProcessGroup::GLOO);
  return group;
}

/// LibTorch's own: averages the gradients of all processes in buckets while backward() goes on.
c10d::Reducer make_reducer(const std::vector<at::Tensor>& parameters,
                           const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  std::vector<size_t> bucket;
  for (size_t k = parameters.size(); k > 0; --k) bucket.push_back(k - 1);  // in the order in which gradients come
  return c10d::Reducer(parameters, {bucket}, group, std::vector<bool>(parameters.size(), false),
                       c10d::kDefaultBucketBytesCap, false, false, {}, c10d::kDefaultFirstBucketBytes, false, false,
                       {});
}

}  // namespace

int main() {
  const int rank = std::stoi(told("RANK")), count = std::stoi(told("WORLD_SIZE"));
  const auto group = make_group(rank, count);

  torch::manual_seed(0);  // the same network on every process; the shards differ nevertheless
  torch::nn::Sequential network(torch::nn::Linear(20, 64), torch::nn::ReLU(), torch::nn::Linear(64, embedding));
  mma::DistributedArcFace head(group, mma::ArcFaceOptions(embedding, identities).scale(16).margin(0.2));
  mma::DistributedMinimalAngle minimal_angle(group);
  mma::Regularizer<> regularizer(*network, mma::Options().coefficient(0.07).share(rank, count));
  auto reducer = make_reducer(network->parameters(), group);

  auto parameters = network->parameters();
  parameters.push_back(head->weight);
  torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(0.2).momentum(0.9));

  const auto faces = torch::randn({identities, 20});  // one a person; a picture is that and some noise
  torch::manual_seed(static_cast<uint64_t>(rank) + 1);
  for (int64_t step = 0; step < steps; ++step) {
    const auto labels = torch::randint(identities, {batch}, torch::kLong);
    const auto images = faces.index_select(0, labels) + 0.1 * torch::randn({batch, 20});
    optimizer.zero_grad();
    regularizer.start();
    reducer.prepare_for_forward();
    const auto cross_entropy = head(network->forward(images), labels);
    auto loss = cross_entropy + 0.03 * minimal_angle(head->weight);
    loss = loss + regularizer.loss();  // in the loss, before the reducer takes the mean
    reducer.prepare_for_backward({});
    loss.backward();
    optimizer.step();

    if (step % 20 != 0 && step != steps - 1) continue;
    const torch::NoGradGuard no_grad;
    const double angle = mma::degrees(-minimal_angle(head->weight).item<double>());  // every process calls it
    if (rank == 0) {
      std::cout << "step " << step << "  cross-entropy " << cross_entropy.item<double>() << "  nearest class at "
                << angle << " degrees\n";
    }
  }
}
