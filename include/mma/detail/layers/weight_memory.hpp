// Where the rows of several weights lie and where their gradients go: in place where the memory of the weight and of
// its .grad allows it, else in copies that are made once and filled at each step.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <string>
#include <vector>

#include "../../weight_matrix.hpp"
#include "../nearest/engine.hpp"

namespace mma::detail::layers {

/// Adds to .grad, or makes it.
inline void add_to_grad(const at::Tensor& weight, const at::Tensor& part) {
  at::Tensor& grad = weight.mutable_grad();
  if (grad.defined()) {
    grad.add_(part);
  } else {
    grad = part;
  }
}

/// A weight as it is when the memory is made.
struct Member {
  std::string name;
  at::Tensor weight;
  WeightLayout layout;
  bool stays = false;  ///< its memory does, as long as it is needed; else only that of a leaf does, which is no result
};

/// The type in which a weight's rows are read: a GPU takes half precision as it is.
inline at::ScalarType row_type(const at::Tensor& weight) {
  return weight.is_cuda() || weight.scalar_type() == at::kDouble ? weight.scalar_type() : at::kFloat;
}

/// Of weights of one device and row_type. Made anew when a weight's memory, shape or type changes.
class WeightMemory {
 public:
  explicit WeightMemory(const std::vector<Member>& members) {
    for (const Member& member : members) {
      sources_.push_back(source_of(member));
      Source& source = sources_.back();
      const at::Tensor rows = source.copy.defined() ? source.copy : rows_in_place(member.weight.detach(), source);
      append_groups(rows, matrices_);
      options_ = rows.options();
    }
  }

  size_t count() const { return sources_.size(); }
  const at::TensorOptions& options() const { return options_; }  ///< of the rows

  /// The matrices of all weights: the groups of weight k are layer k, or each a layer of its own.
  std::vector<nearest::Matrix> matrices(bool groups_are_layers = false) const {
    std::vector<nearest::Matrix> result;
    for (size_t k = 0; k < sources_.size(); ++k) {
      for (int64_t g = 0; g < sources_[k].sizes[0]; ++g) {
        result.push_back({matrices_[result.size()], groups_are_layers ? result.size() : k});
      }
    }
    return result;
  }

  /// Sizes [groups, n, d] of a weight's rows.
  const std::vector<int64_t>& sizes(size_t k) const { return sources_[k].sizes; }

  /// A weight as its rows [groups, n, d] in the computing type, differentiable.
  at::Tensor rows(size_t k, const at::Tensor& weight) const {
    return in_computing_type(weight_rows(weight, sources_[k].layout, sources_[k].name));
  }

  /// rows() backwards.
  at::Tensor as_weight_of(size_t k, const at::Tensor& rows, const at::Tensor& weight) const {
    return rows_to_weight(rows, weight, sources_[k].layout);
  }

  /// Fills the copies.
  void take(at::TensorList weights) {
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].copy.defined()) {
        sources_[k].copy.copy_(weight_rows(weights[k].detach(), sources_[k].layout, sources_[k].name));
      }
    }
  }

  /// The memory of each matrix [n, d] that gradients are added to: the weights' .grad, or zeros that keep_gradients()
  /// adds to it.
  std::vector<at::Tensor> gradients_in_place(at::TensorList weights) {
    std::vector<at::Tensor> result;
    for (size_t k = 0; k < sources_.size(); ++k) {
      append_groups(gradient_target(weights[k], sources_[k]), result);
    }
    return result;
  }

  void keep_gradients(at::TensorList weights) {
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].gradient.defined()) {
        add_to_grad(weights[k], as_weight(sources_[k].gradient, weights[k], sources_[k]));
      }
    }
  }

  /// Gradients of zeros, in one piece of memory that is set to zero at once.
  struct Gradients {
    std::vector<at::Tensor> rows;      ///< [groups, n, d] of each weight
    std::vector<at::Tensor> matrices;  ///< [n, d] of each matrix
  };

  Gradients new_gradients() const {
    int64_t numbers = 0;
    for (const Source& source : sources_) {
      numbers += aligned(source.numel());
    }
    const at::Tensor memory = at::zeros({numbers}, options_);
    Gradients result;
    int64_t begin = 0;
    for (const Source& source : sources_) {
      result.rows.push_back(memory.narrow(0, begin, source.numel()).view(source.sizes));
      append_groups(result.rows.back(), result.matrices);
      begin += aligned(source.numel());
    }
    return result;
  }

  /// As the weights are.
  std::vector<at::Tensor> as_weights(const Gradients& gradients, at::TensorList weights) const {
    std::vector<at::Tensor> result;
    for (size_t k = 0; k < sources_.size(); ++k) {
      result.push_back(as_weight(gradients.rows[k], weights[k], sources_[k]));
    }
    return result;
  }

 private:
  struct Source {
    std::string name;
    WeightLayout layout;
    std::vector<int64_t> sizes;  ///< [groups, n, d]
    at::Tensor copy;             ///< of the rows, in the rows' type; undefined where the weight's memory is taken
    at::Tensor gradient;         ///< where .grad cannot be added to in place

    int64_t numel() const { return sizes[0] * sizes[1] * sizes[2]; }
  };

  /// Gradients start at whole cache lines.
  static int64_t aligned(int64_t numbers) { return (numbers + 63) / 64 * 64; }

  static Source source_of(const Member& member) {
    const at::Tensor rows = weight_rows(member.weight.detach(), member.layout, member.name);
    Source source{member.name, member.layout, rows.sizes().vec(), {}, {}};
    // A weight computed from other tensors has new memory at each step.
    const at::ScalarType type = row_type(member.weight);
    if (!(member.stays || member.weight.is_leaf()) || !rows_are_blocks(member.weight, member.layout) ||
        member.weight.scalar_type() != type) {
      source.copy = at::empty(rows.sizes(), rows.options().dtype(type));
    }
    return source;
  }

  /// Whether each row is one block of memory. In which order its entries are there is the same for all rows, so it
  /// changes no angle: channels_last weights are taken as they are.
  static bool rows_are_blocks(const at::Tensor& weight, const WeightLayout& layout) {
    return !layout.transposed && weight.is_non_overlapping_and_dense() &&
           weight.stride(0) * weight.size(0) == weight.numel();
  }

  static at::Tensor rows_in_place(const at::Tensor& weight, const Source& source) {
    const std::vector<int64_t>& sizes = source.sizes;
    return weight.as_strided(sizes, {sizes[1] * sizes[2], sizes[2], 1}, weight.storage_offset());
  }

  /// A gradient [groups, n, d] as the weight is.
  static at::Tensor as_weight(const at::Tensor& rows, const at::Tensor& weight, const Source& source) {
    return source.copy.defined() ? rows_to_weight(rows, weight, source.layout)
                                 : rows.as_strided(weight.sizes(), weight.strides(), rows.storage_offset());
  }

  static void append_groups(const at::Tensor& rows, std::vector<at::Tensor>& matrices) {
    for (int64_t g = 0; g < rows.size(0); ++g) {
      matrices.push_back(rows[g]);
    }
  }

  static at::Tensor gradient_target(const at::Tensor& weight, Source& source) {
    at::Tensor& grad = weight.mutable_grad();
    if (!source.copy.defined() && !grad.defined()) {
      grad = at::zeros_like(weight.detach());
    }
    if (!source.copy.defined() && grad.layout() == c10::kStrided && grad.strides() == weight.strides() &&
        grad.scalar_type() == weight.scalar_type() && grad.device() == weight.device()) {
      source.gradient.reset();
      return rows_in_place(grad.detach(), source);
    }
    if (!source.gradient.defined()) {
      source.gradient = at::empty(source.sizes, weight.options().dtype(row_type(weight)));
    }
    return source.gradient.zero_();
  }

  std::vector<Source> sources_;
  std::vector<at::Tensor> matrices_;  ///< [n, d] of each group of each weight
  at::TensorOptions options_;
};

}  // namespace mma::detail::layers
