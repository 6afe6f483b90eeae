// What LibTorch's own torch::save and torch::pickle_save write is read.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/serialize.h>

#include "../../peak_memory.hpp"
#include "../../sanitizers.hpp"
#include "../test_files.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

class LibTorchFiles : public ::testing::Test {
 protected:
  LibTorchFiles() : model_(torch::nn::Linear(4, 3), torch::nn::BatchNorm1d(3)) {}

  at::Tensor weight() { return model_->named_parameters()["0.weight"].detach(); }

  std::string names(const TensorFile& file) const {
    std::string names;
    for (const auto& [name, tensor] : file.tensors) names += name + ' ';
    return names;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "file.pt";
  torch::nn::Sequential model_;
};

TEST_F(LibTorchFiles, Module) {
  torch::save(model_, path_);
  const TensorFile file = read_tensor_file(path_);
  EXPECT_EQ(names(file), "0.weight 0.bias 1.weight 1.bias 1.running_mean 1.running_var 1.num_batches_tracked ");
  EXPECT_TRUE(file.find("0.weight")->equal(weight()));
}

TEST_F(LibTorchFiles, Tensors) {
  torch::save(std::vector<at::Tensor>{weight(), weight() * 2}, path_);
  const TensorFile file = read_tensor_file(path_);
  EXPECT_EQ(names(file), "0 1 ");
  EXPECT_TRUE(file.find("1")->equal(weight() * 2));
  torch::save(weight(), path_);
  EXPECT_TRUE(read_tensor_file(path_).tensors.at(0).second.equal(weight()));
}

TEST_F(LibTorchFiles, Optimizer) {
  torch::optim::Adam optimizer(model_->parameters());
  model_->forward(at::ones({5, 4})).sum().backward();
  optimizer.step();
  torch::save(optimizer, path_);
  size_t moments = 0;
  for (const auto& [name, tensor] : read_tensor_file(path_).tensors) moments += name.ends_with("exp_avg") ? 1 : 0;
  EXPECT_EQ(moments, 4u);
}

/// While it lives, this process gets only so many more bytes of memory.
class MemoryLimit {
 public:
  explicit MemoryLimit(int64_t more_bytes) {
    getrlimit(RLIMIT_AS, &old_);
    const rlimit limit{static_cast<rlim_t>(status_bytes("VmSize").value() + more_bytes), old_.rlim_max};
    setrlimit(RLIMIT_AS, &limit);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &old_); }

 private:
  rlimit old_{};
};

TEST_F(LibTorchFiles, LargerThanMemoryAreNotCalledDamaged) {
  if (mma::tests::has_sanitizer) GTEST_SKIP() << "the sanitizer needs the address space";
  constexpr int64_t bytes = int64_t{256} << 20;
  torch::save(std::vector<at::Tensor>{at::zeros({bytes / 4})}, path_);
  const MemoryLimit limit(bytes / 2);
  EXPECT_EQ(message_of<UserError>([&] { read_tensor_file(path_); }),
            path_ + ": not enough memory for 268435456 more bytes");
}

TEST_F(LibTorchFiles, PickleOfADictionary) {
  c10::Dict<std::string, at::Tensor> tensors;
  tensors.insert("fc.weight", weight());
  const std::vector<char> bytes = torch::jit::pickle_save(tensors);
  write_bytes(path_, std::string(bytes.begin(), bytes.end()));
  const TensorFile file = read_tensor_file(path_);
  EXPECT_EQ(names(file), "fc.weight ");
  EXPECT_TRUE(file.find("fc.weight")->equal(weight()));
}

}  // namespace
}  // namespace mma::examples
