#include "faces/face_network.hpp"

#include <c10/util/StringUtil.h>
#include <torch/cuda.h>

#include <algorithm>
#include <iostream>
#include <optional>

#include "faces/networks.hpp"
#include "support/files/json.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"
#include "training/models/weights.hpp"

namespace mma::examples {
namespace {

/// In a checkpoint the network lies beside the head that is trained with it.
constexpr const char* embedding_prefix = "model.embedding.";

/// The network's name in the record of a checkpoint; empty when the file is none.
std::optional<std::string> recorded_model(const TensorFile& file, const std::string& path) {
  const auto record = file.metadata.find(checkpoint_record_key);
  if (record == file.metadata.end()) return std::nullopt;
  try {
    return word(member_of(parse_ordered_json(record->second), "settings"), "model");
  } catch (const BadJson& error) {
    throw UserError(path + ": " + error.about("the record of its run"));
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

/// Undefined when it is absent. Its name may stand behind prefixes, which are taken off later.
at::Tensor tensor_in(const NamedTensors& tensors, const std::string& name) {
  const auto is_meant = [&](const auto& entry) { return entry.first == name || entry.first.ends_with('.' + name); };
  const auto found = std::ranges::find(tensors, name, &NamedTensors::value_type::first);
  if (found != tensors.end()) return found->second;
  const auto behind = std::ranges::find_if(tensors, is_meant);
  return behind == tensors.end() ? at::Tensor() : behind->second;
}

bool is_grey(const NamedTensors& tensors) {
  const at::Tensor first = tensor_in(tensors, "conv1.weight");
  return first.defined() && first.dim() == 4 && first.size(1) == 1;
}

/// The network with the embedding's dimension of the file, whose last weight must fit but for that: a large network is
/// built only where the file holds its numbers. load_tensors complains about all else.
std::shared_ptr<EmbeddingNetwork> network_for(const std::string& model, int64_t channels, const NamedTensors& tensors) {
  const ImageShape image{.channels = channels, .size = face_size};
  auto network = make_embedding_network(model, image);
  const at::Tensor stored = tensor_in(tensors, "fc.weight");
  const at::Tensor own = tensor_in(state_of(*network), "fc.weight");
  if (!stored.defined() || !own.defined() || stored.dim() != 2 || own.dim() != 2 || stored.size(0) < 1) return network;
  if (stored.size(1) != own.size(1) || stored.size(0) == own.size(0)) return network;
  return make_embedding_network(model, image, stored.size(0));
}

}  // namespace

FaceNetwork read_face_network(const std::filesystem::path& path, const std::string& model, const std::string& device,
                              const std::string& key) {
  if (device != "cpu" && device != "cuda") throw UserError("--device " + device + ": one of cpu, cuda is needed");
  if (device == "cuda" && !torch::cuda::is_available()) {
    throw UserError(
        "--device cuda: this machine has no NVIDIA GPU that LibTorch can use, or LibTorch was built without "
        "CUDA");
  }
  const TensorFile file = read_tensor_file(path, key);
  const std::optional<std::string> recorded = recorded_model(file, path.string());
  FaceNetwork result;
  result.model = model_of(recorded, model, path.string());
  const NamedTensors weights = recorded ? tensors_under(file, embedding_prefix) : file.tensors;
  result.channels = is_grey(weights) ? 1 : 3;
  const auto network = network_for(result.model, result.channels, weights);
  const NamedTensors state = state_of(*network);
  const FittedTensors fitted = recorded ? FittedTensors{weights, ""} : fitted_to(state, weights);
  std::cerr << words_about_skipped(file) << fitted.words << std::flush;
  load_tensors(fitted.tensors, state, path.string());
  network->to(c10::Device(device));
  network->eval();
  result.features = [network](const at::Tensor& images) { return network->forward(images); };
  return result;
}

}  // namespace mma::examples
