// A layer that is regularized, a matrix that is not, and the hook by which a user teaches the walk a module type of his
// own: mma::register_layer<MyDenseImpl>([](const MyDenseImpl& layer) { return layer.kernel; });
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "detail/layers/rules.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// A layer in step with its module: the weight is read from the module's member each time.
struct Layer {
  std::string name;                    ///< dotted, such as "layer1.0.conv1"
  std::function<at::Tensor()> weight;  ///< the weight of this moment, as the module has it
  WeightLayout layout;                 ///< how its rows lie in it
  double coefficient = 0;              ///< lambda of Eq 13

  /// The weight as [groups, rows, dimension], in its own dtype; errors as weight_rows().
  at::Tensor rows() const { return weight_rows(weight(), layout, name); }
};

/// A parameter of two or more dimensions that is in no layer: no rule takes it (an LSTM's, an attention's, an
/// embedding's, a module's own). Regularizer::add() does.
struct LeftOut {
  std::string name;            ///< dotted, such as "lstm.weight_ih_l0"
  std::vector<int64_t> sizes;  ///< of the parameter
  std::string module;          ///< the type of the module that has it, such as "LSTM"
};

/// From now on a module of type Impl, or of a type that derives from it, is a layer of every Regularizer that is made.
/// `read` gives its weight as Tensor(const Impl&), a dense floating-point tensor of two or more dimensions; `layout`
/// says as WeightLayout(const Impl&) how the rows lie in it. Goes before the rules of LibTorch's own layers, and before
/// those registered earlier; a second rule for the same type takes the place of the first. Thread-safe.
template <typename Impl, typename Read, typename Layout>
requires std::is_invocable_r_v<WeightLayout, Layout, const Impl&>
void register_layer(Read read, Layout layout) {
  static_assert(std::is_base_of_v<torch::nn::Module, Impl>,
                "mma::register_layer<Impl>: Impl is the module's class itself, such as MyDenseImpl, not its holder");
  static_assert(std::is_invocable_r_v<at::Tensor, Read, const Impl&>,
                "mma::register_layer<Impl>(read): read is called as Tensor(const Impl&) and returns the weight");
  detail::layers::Rules::instance().add(typeid(Impl),
                                        detail::layers::make_rule<Impl>(std::move(read), std::move(layout)));
}

/// The same for a layout that all modules of the type have.
template <typename Impl, typename Read>
void register_layer(Read read, const WeightLayout& layout = {}) {
  register_layer<Impl>(std::move(read), [layout](const Impl&) { return layout; });
}

}  // namespace mma
