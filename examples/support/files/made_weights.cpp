#include "support/files/made_weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mv.h>

#include <map>
#include <optional>
#include <set>
#include <string_view>

namespace mma::examples {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

const at::Tensor* find(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : &found->second;
}

bool is_floating(const at::Tensor* tensor) { return tensor != nullptr && c10::isFloatingType(tensor->scalar_type()); }

at::Tensor computable(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
}

/// g v / |v|, a norm for each place along the dimension that g keeps. Undefined when the shapes are other ones.
at::Tensor weight_norm(const at::Tensor& g, const at::Tensor& v) {
  if (g.dim() != 0 && g.dim() != v.dim()) return {};
  std::vector<int64_t> dimensions;
  for (int64_t d = 0; d < v.dim(); ++d) {
    if (g.dim() == 0 || g.size(d) == 1) {
      dimensions.push_back(d);
    } else if (g.size(d) != v.size(d)) {
      return {};
    }
  }
  if (dimensions.empty()) return {};
  const at::Tensor direction = computable(v);
  return direction * (computable(g) / at::linalg_vector_norm(direction, 2, dimensions, /*keepdim=*/true));
}

/// w / (u' w v). Without v, which PyTorch before 1.1 did not store, the one that belongs to u. Undefined when the
/// shapes are other ones.
at::Tensor spectral_norm(const at::Tensor& w, const at::Tensor& u, const at::Tensor* v) {
  if (w.dim() < 2 || u.dim() != 1 || w.numel() == 0) return {};
  int64_t along = 0;  // 1 for transposed convolutions
  while (along < w.dim() && w.size(along) != u.size(0)) ++along;
  if (along == w.dim()) return {};
  const at::Tensor matrix = computable(w).movedim(along, 0).reshape({u.size(0), -1});
  const at::Tensor left = computable(u).to(matrix.scalar_type());
  at::Tensor right;
  if (is_floating(v)) {
    if (v->dim() != 1 || v->size(0) != matrix.size(1)) return {};
    right = computable(*v).to(matrix.scalar_type());
  } else {
    right = at::mv(matrix.t(), left);
    right = right / right.norm();
  }
  return computable(w) / left.dot(at::mv(matrix, right));
}

at::Tensor masked(const at::Tensor& weight, const at::Tensor& mask) {
  return weight.sizes() == mask.sizes() ? weight * mask.to(weight.scalar_type()) : at::Tensor();
}

/// A weight and the names of its parts.
struct Made {
  MadeWeight weight;
  std::vector<std::string> parts;
};

/// Of a tensor "N" + suffix; std::nullopt when its name or shape is another one.
std::optional<std::string> stem(const std::string& name, const std::string& suffix) {
  if (!name.ends_with(suffix) || name.size() == suffix.size()) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

std::optional<Made> made(const std::string& name, const at::Tensor& tensor, std::string note,
                         std::vector<std::string> parts) {
  if (!tensor.defined()) return std::nullopt;
  return Made{{name, tensor, std::move(note)}, std::move(parts)};
}

/// N_v and N_g
std::optional<Made> by_weight_norm(const Tensors& tensors, const std::string& name, const at::Tensor& v) {
  const auto base = stem(name, "_v");
  if (!base || v.dim() < 2) return std::nullopt;
  const at::Tensor* g = find(tensors, *base + "_g");
  if (!is_floating(g)) return std::nullopt;
  return made(*base, weight_norm(*g, v), "weight_norm", {name, *base + "_g"});
}

/// N_orig with N_mask, or with N_u and N_v
std::optional<Made> of_original(const Tensors& tensors, const std::string& name, const at::Tensor& original) {
  const auto base = stem(name, "_orig");
  if (!base) return std::nullopt;
  if (const at::Tensor* mask = find(tensors, *base + "_mask")) {
    return made(*base, masked(original, *mask), "pruned", {name, *base + "_mask"});
  }
  const at::Tensor* u = find(tensors, *base + "_u");
  if (is_floating(u)) {
    if (auto weight = made(*base, spectral_norm(original, *u, find(tensors, *base + "_v")), "spectral_norm",
                           {name, *base + "_u", *base + "_v"})) {
      return weight;
    }
  }
  return made(*base, original, "as stored in " + name, {name});
}

/// P.parametrizations.N.original, or .original0 and .original1 of weight_norm
std::optional<Made> by_parametrization(const Tensors& tensors, const std::string& name, const at::Tensor& original) {
  const std::string_view marker = "parametrizations.";
  const size_t at = name.find(marker);
  if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) return std::nullopt;
  const auto layer = [&](const std::string& folder) { return name.substr(0, at) + folder.substr(at + marker.size()); };
  if (const auto folder = stem(name, ".original1"); folder && folder->size() > at + marker.size()) {
    const at::Tensor* g = find(tensors, *folder + ".original0");
    if (!is_floating(g)) return std::nullopt;
    return made(layer(*folder), weight_norm(*g, original), "weight_norm", {name, *folder + ".original0"});
  }
  const auto folder = stem(name, ".original");
  if (!folder || folder->size() <= at + marker.size()) return std::nullopt;
  const at::Tensor* u = find(tensors, *folder + ".0._u");
  const bool is_only_one = tensors.lower_bound(*folder + ".1.") == tensors.lower_bound(*folder + ".1/");
  if (is_floating(u) && is_only_one) {
    if (auto weight = made(layer(*folder), spectral_norm(original, *u, find(tensors, *folder + ".0._v")),
                           "spectral_norm", {name, *folder + ".0._u", *folder + ".0._v"})) {
      return weight;
    }
  }
  return made(layer(*folder), original, "as stored, before its parametrization", {name});
}

}  // namespace

std::vector<MadeWeight> made_weights(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  const Tensors by_name(tensors.begin(), tensors.end());
  std::map<std::string, MadeWeight> weights;  // by the part in whose place they stand
  std::set<std::string> parts;
  for (const auto& [name, tensor] : tensors) {
    if (!c10::isFloatingType(tensor.scalar_type())) continue;
    std::optional<Made> made = by_parametrization(by_name, name, tensor);
    if (!made) made = of_original(by_name, name, tensor);
    if (!made) made = by_weight_norm(by_name, name, tensor);
    if (!made || by_name.contains(made->weight.name)) continue;
    weights.emplace(name, std::move(made->weight));
    parts.insert(made->parts.begin(), made->parts.end());
  }
  std::vector<MadeWeight> result;
  for (const auto& [name, tensor] : tensors) {
    if (const auto weight = weights.find(name); weight != weights.end()) {
      result.push_back(weight->second);
    } else if (!parts.contains(name)) {
      result.push_back({name, tensor, ""});
    }
  }
  return result;
}

}  // namespace mma::examples
