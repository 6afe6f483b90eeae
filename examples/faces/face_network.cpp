#include "faces/face_network.hpp"

#include <c10/util/StringUtil.h>
#include <torch/cuda.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/error.hpp"
#include "common/tensor_file.hpp"
#include "faces/networks.hpp"
#include "train/weights.hpp"

namespace mma::examples {
namespace {

/// In a checkpoint the network lies beside the head that is trained with it.
constexpr const char* embedding_prefix = "model.embedding.";

/// The network's name in the record of a checkpoint; empty when the file is none.
std::optional<std::string> recorded_model(const TensorFile& file, const std::string& path) {
  const auto record = file.metadata.find(checkpoint_record_key);
  if (record == file.metadata.end()) return std::nullopt;
  try {
    return nlohmann::json::parse(record->second).at("settings").at("model").get<std::string>();
  } catch (const nlohmann::json::exception&) {
    throw UserError(path + " holds a record of its run that this version of mma-faces cannot read.");
  }
}

std::string known_networks() { return c10::Join(", ", embedding_network_names()); }

bool is_known(const std::string& model) {
  return std::ranges::find(embedding_network_names(), model) != embedding_network_names().end();
}

std::string model_of(const std::optional<std::string>& recorded, const std::string& asked, const std::string& path) {
  if (!recorded) {
    if (asked.empty())
      throw UserError(path + " does not say which network it holds; expected --model " + known_networks());
    if (!is_known(asked)) throw UserError("--model " + asked + ": one of " + known_networks() + " is needed");
    return asked;
  }
  if (!is_known(*recorded)) {
    throw UserError(
        c10::str(path, " holds a ", *recorded, ", which embeds no faces; expected one of ", known_networks()));
  }
  if (!asked.empty() && asked != *recorded) throw UserError(c10::str(path, " holds a ", *recorded, ", not a ", asked));
  return *recorded;
}

/// The size of a weight along one of its dimensions: images' channels, the embedding's dimension. 0 when it is absent
/// or beyond reason, about which load_tensors will complain.
int64_t size_in(const NamedTensors& tensors, const std::string& name, int64_t dimension) {
  for (const auto& [other, tensor] : tensors) {
    if (other == name && tensor.dim() > dimension && tensor.size(dimension) <= 1 << 16) return tensor.size(dimension);
  }
  return 0;
}

}  // namespace

FaceNetwork read_face_network(const std::filesystem::path& path, const std::string& model, const std::string& device) {
  if (device != "cpu" && device != "cuda") throw UserError("--device " + device + ": one of cpu, cuda is needed");
  if (device == "cuda" && !torch::cuda::is_available()) {
    throw UserError(
        "--device cuda: this machine has no NVIDIA GPU that LibTorch can use, or LibTorch was built without "
        "CUDA");
  }
  const TensorFile file = read_tensor_file(path);
  const std::optional<std::string> recorded = recorded_model(file, path.string());
  FaceNetwork result;
  result.model = model_of(recorded, model, path.string());
  const NamedTensors weights = recorded ? tensors_under(file, embedding_prefix) : file.tensors;
  result.channels = size_in(weights, "conv1.weight", 1) == 1 ? 1 : 3;
  const int64_t embedding = size_in(weights, "fc.weight", 0);
  const auto network =
      make_embedding_network(result.model, {.channels = result.channels, .size = face_size}, embedding);
  load_tensors(weights, state_of(*network), path.string());
  network->to(c10::Device(device));
  network->eval();
  result.features = [network](const at::Tensor& images) { return network->forward(images); };
  return result;
}

}  // namespace mma::examples
