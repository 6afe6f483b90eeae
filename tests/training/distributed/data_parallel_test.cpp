// Two and four processes compute the gradients that one computes of the whole batch, the regularizer's among them, and
// a synchronised normalisation is LibTorch's of the whole batch.
#include <torch/nn/functional/batchnorm.h>

#include "../../launched.hpp"
#include "../../temporary_folder.hpp"
#include "normalised_cases.hpp"
#include "support/files/tensor_file.hpp"

namespace mma::examples {
namespace {

using mma::tests::Launched;
using mma::tests::normalised_cases;
using mma::tests::NormalisedCase;

/// Rank by rank.
std::vector<TensorFile> results_of(int processes) {
  const mma::tests::TemporaryFolder folder;
  const std::vector<std::string> words = {MMA_DATA_PARALLEL_WORKER, folder.path().string()};
  if (processes == 1) {
    const mma::tests::Outcome outcome = mma::tests::outcome_of(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  } else {
    Launched launched(processes, words);
    EXPECT_EQ(launched.finish(), std::vector<int>(static_cast<size_t>(processes), 0)) << launched.errors();
  }
  std::vector<TensorFile> files;
  for (int rank = 0; rank < processes; ++rank) {
    files.push_back(read_tensor_file(folder / (std::to_string(rank) + ".safetensors")));
  }
  return files;
}

void expect_close(const at::Tensor& got, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  const double difference = (got - expected).abs().max().item<double>();
  constexpr double rounding = 1e-15;  // what is left of a gradient that is 0: of a bias before a normalisation
  EXPECT_LE(difference, 1e-10 * expected.abs().max().item<double>() + rounding) << what;
}

void expect_gradients(const std::vector<TensorFile>& ranks, const TensorFile& whole) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    int64_t compared = 0;
    for (const auto& [name, expected] : whole.tensors) {
      expect_close(*ranks[rank].find(name), expected, name);
      EXPECT_TRUE(at::equal(*ranks[rank].find(name), *ranks[0].find(name))) << "rank " << rank << ", " << name;
      ++compared;
    }
    EXPECT_EQ(compared, 12);
  }
}

at::Tensor joined(const std::vector<TensorFile>& ranks, const std::string& name) {
  std::vector<at::Tensor> pieces;
  for (const TensorFile& rank : ranks) pieces.push_back(*rank.find(name));
  return at::cat(pieces);
}

at::Tensor summed(const std::vector<TensorFile>& ranks, const std::string& name) {
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (const TensorFile& rank : ranks) sum = sum + *rank.find(name);
  return sum;
}

/// LibTorch's on the whole batch.
void expect_normalised(const std::vector<TensorFile>& ranks, const NormalisedCase& whole, const std::string& name) {
  const at::Tensor images = whole.images.clone().set_requires_grad(true);
  const at::Tensor weight = whole.weight.clone().set_requires_grad(true);
  const at::Tensor bias = whole.bias.clone().set_requires_grad(true);
  const at::Tensor mean = at::zeros_like(whole.weight), variance = at::ones_like(whole.weight);
  const at::Tensor normal = at::batch_norm(images, weight, bias, mean, variance, true, 0.1, 1e-5, false);
  (normal * whole.slope).sum().backward();
  expect_close(joined(ranks, name + "normal"), normal.detach(), name + "normal");
  expect_close(joined(ranks, name + "images"), images.grad(), name + "images");
  expect_close(summed(ranks, name + "weight"), weight.grad(), name + "weight");
  expect_close(summed(ranks, name + "bias"), bias.grad(), name + "bias");
  for (const TensorFile& rank : ranks) {
    expect_close(*rank.find(name + "mean"), mean, name + "mean");
    expect_close(*rank.find(name + "variance"), variance, name + "variance");
  }
}

using DataParallel = mma::tests::SeveralProcessesTest;

TEST_F(DataParallel, GradientsAndNormalisationAreThoseOfOneProcess) {
  const TensorFile whole = results_of(1)[0];
  for (const int processes : {2, 4}) {
    SCOPED_TRACE(processes);
    const std::vector<TensorFile> ranks = results_of(processes);
    expect_gradients(ranks, whole);
    for (size_t k = 0; k < normalised_cases().size(); ++k) {
      expect_normalised(ranks, normalised_cases()[k], "case" + std::to_string(k) + ".");
    }
  }
}

}  // namespace
}  // namespace mma::examples
