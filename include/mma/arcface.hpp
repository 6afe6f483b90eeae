// mma::ArcFace, the classifier of a face network with an additive angular margin (Eq 15), and its combined form.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/where.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <optional>
#include <ostream>

#include "weight_matrix.hpp"

namespace mma {

/// What an ArcFace head is made of: mma::ArcFaceOptions(512, identities).margin(0.5).
class ArcFaceOptions {
 public:
  /// For embeddings [batch, embedding] of so many identities.
  ArcFaceOptions(int64_t embedding, int64_t identities) : embedding_(embedding), identities_(identities) {}

  /// s, the length that embeddings are given. Default 64.
  ArcFaceOptions& scale(double value) {
    scale_ = value;
    return *this;
  }
  /// ArcFace's m in radians. Default 0.5, about 28.6 degrees.
  ArcFaceOptions& margin(double radians) { return margins(1, radians, 0); }

  /// The combined margin: m1 times the angle (SphereFace), plus m2 radians (ArcFace), m3 off the cosine (CosFace).
  ArcFaceOptions& margins(double m1, double m2, double m3) {
    m1_ = m1;
    m2_ = m2;
    m3_ = m3;
    return *this;
  }

  int64_t embedding() const { return embedding_; }    ///< the dimension of an embedding
  int64_t identities() const { return identities_; }  ///< how many classes there are
  double scale() const { return scale_; }             ///< s
  double m1() const { return m1_; }                   ///< times the angle
  double m2() const { return m2_; }                   ///< radians, added to the angle
  double m3() const { return m3_; }                   ///< off the cosine

 private:
  int64_t embedding_, identities_;
  double scale_ = 64, m1_ = 1, m2_ = 0.5, m3_ = 0;
};

namespace detail {

/// cos(m1 theta + m2) - m3 would rise again where m1 theta + m2 passes pi. From there on it is cos theta - m sin m - m3
/// with m = pi - theta there, so m = m2 for ArcFace: its authors' rule (insightface, easy_margin off). For an m above
/// 2.33, as of SphereFace's m1 = 4, the step would be upwards: there 1 - cos m, which makes none.
struct AngularMargin {
  double m1 = 1, m2 = 0, m3 = 0;

  /// theta in radians; pi or more where none passes.
  double border() const { return (std::numbers::pi - m2) / m1; }

  double beyond() const {
    const double m = std::numbers::pi - border();
    return std::max(m * std::sin(m), 1 - std::cos(m));
  }

  at::Tensor operator()(const at::Tensor& theta) const {
    const at::Tensor inside = (theta * m1 + m2).cos();
    return at::where(theta < border(), inside, theta.cos() - beyond()) - m3;
  }
};

inline AngularMargin margin_of(const ArcFaceOptions& options) { return {options.m1(), options.m2(), options.m3()}; }

/// The lengths of rows [n, d] as [n, 1]. Infinite where none is left in the type's precision, so that such a row
/// divided by it is 0 and gets no gradient.
inline at::Tensor lengths(const at::Tensor& rows) {
  const at::Tensor length = rows.norm(2, {1}, true);
  return at::where(length > 0, length, std::numeric_limits<double>::infinity());
}

/// The angles [n] in float64 between a[i] and b[i], by 2 atan2(|a^ - b^|, |a^ + b^|): near 0 and pi a cosine in float32
/// would leave nothing of them, and its arccos has no derivative. pi/2 where either is zero. At 0 and pi, where every
/// direction is as good, the gradient is 0.
inline at::Tensor angles_between(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor first = a.to(at::kDouble), second = b.to(at::kDouble);
  const at::Tensor u = first / lengths(first), v = second / lengths(second);
  const at::Tensor apart = (u - v).norm(2, {1}), together = (u + v).norm(2, {1});
  const at::Tensor both_zero = (apart + together) == 0;
  return 2 * at::atan2(at::where(both_zero, 1.0, apart), at::where(both_zero, 1.0, together));
}

/// cos theta_j of each embedding with each class [batch, classes]: the products are divided, not the classes before,
/// which needs no copy of them.
inline at::Tensor cosines_between(const at::Tensor& embeddings, const at::Tensor& classes) {
  return (embeddings / lengths(embeddings)).mm(classes.t()) / lengths(classes).t();
}

/// Throws c10::Error for what no ArcFace is made of.
inline const ArcFaceOptions& checked(const ArcFaceOptions& options) {
  TORCH_CHECK(options.embedding() >= 1 && options.identities() >= 1, "mma: ArcFace of ", options.identities(),
              " identities and embeddings of ", options.embedding(), "; expected 1 or more of each.");
  TORCH_CHECK(options.scale() > 0 && std::isfinite(options.scale()), "mma: ArcFace's scale is ", options.scale(),
              "; expected more than 0.");
  TORCH_CHECK(options.m1() > 0 && std::isfinite(options.m1()), "mma: ArcFace's m1 is ", options.m1(),
              "; expected more than 0.");
  TORCH_CHECK(options.m2() >= 0 && options.m2() < std::numbers::pi, "mma: ArcFace's m2 is ", options.m2(),
              "; expected radians from 0 to less than pi.");
  TORCH_CHECK(options.m3() >= 0 && std::isfinite(options.m3()), "mma: ArcFace's m3 is ", options.m3(),
              "; expected 0 or more.");
  return options;
}

inline void check_embeddings(const ArcFaceOptions& options, const at::Tensor& embeddings) {
  TORCH_CHECK(embeddings.dim() == 2 && embeddings.size(1) == options.embedding() && embeddings.is_floating_point(),
              "mma: ArcFace got embeddings of shape ", embeddings.sizes(), " and type ", embeddings.scalar_type(),
              "; expected floating-point numbers, [batch, ", options.embedding(), "].");
}

inline void check_labels(const ArcFaceOptions& options, const at::Tensor& embeddings, const at::Tensor& labels) {
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == embeddings.size(0) &&
                  at::isIntegralType(labels.scalar_type(), /*includeBool=*/false),
              "mma: ArcFace got labels of shape ", labels.sizes(), " and type ", labels.scalar_type(), "; expected ",
              embeddings.size(0), " integers, one for each embedding.");
  if (!labels.is_cpu() || labels.numel() == 0) return;
  const auto lowest = labels.min().item<int64_t>(), highest = labels.max().item<int64_t>();
  TORCH_CHECK(lowest >= 0 && highest < options.identities(), "mma: ArcFace got the label ",
              lowest < 0 ? lowest : highest, "; expected labels from 0 to ", options.identities() - 1, ".");
}

}  // namespace detail

/// A Linear layer without bias for unit vectors, with a margin where the label is known (Eq 15): `weight` [identities,
/// embedding], one row a class. Being a Linear it is an output layer for Scope where it is registered last.
/// Initialised by a normal distribution of deviation 0.01, as its authors do.
///
///     logit_j = s cos theta_j      of the label's own: s (cos(m1 theta + m2) - m3)
///
/// where theta_j is the angle between an embedding and class j's weight. Deng, Guo, Xue, Zafeiriou: ArcFace: Additive
/// Angular Margin Loss for Deep Face Recognition, CVPR 2019.
///
/// ArcFace+ is its cross-entropy and a Regularizer over its weight: Options().scope(Scope::Output).coefficient(0.03).
class ArcFaceImpl : public torch::nn::LinearImpl {
 public:
  /// Throws c10::Error for sizes below 1, a scale or an m1 that is not positive, an m2 outside [0, pi), an m3 below 0.
  explicit ArcFaceImpl(const ArcFaceOptions& options_)
      : LinearImpl(torch::nn::LinearOptions(detail::checked(options_).embedding(), options_.identities()).bias(false)),
        options(options_) {
    reset_parameters();
  }
  /// With the default scale and margin.
  ArcFaceImpl(int64_t embedding, int64_t identities) : ArcFaceImpl(ArcFaceOptions(embedding, identities)) {}

  /// Draws the weight anew.
  void reset_parameters() {
    const at::NoGradGuard no_grad;
    weight.normal_(0, 0.01);
  }

  /// Makes the parameters anew, as every torch::nn layer's reset().
  void reset() override {
    LinearImpl::reset();
    reset_parameters();
  }

  /// A deep copy, on `device` where one is given.
  std::shared_ptr<Module> clone(const std::optional<at::Device>& device = std::nullopt) const override {
    const at::NoGradGuard no_grad;
    auto copy = std::make_shared<ArcFaceImpl>(options);
    copy->to(device.value_or(weight.device()), weight.scalar_type());
    copy->weight.copy_(weight);
    copy->weight.set_requires_grad(weight.requires_grad());
    copy->train(is_training());
    return copy;
  }

  /// One line: the sizes, the scale and the margins.
  void pretty_print(std::ostream& stream) const override {
    stream << "mma::ArcFace(embedding=" << options.embedding() << ", identities=" << options.identities()
           << ", scale=" << options.scale() << ", margins=(" << options.m1() << ", " << options.m2() << ", "
           << options.m3() << "))";
  }

  /// Embeddings [B, embedding] and labels [B], integers from 0 to identities - 1 -> logits [B, identities] for
  /// cross-entropy; without labels s cos theta, for evaluation. In float32 under autocast and for float16 and bfloat16
  /// (whose gradients come back in their type); float64 stays. Embeddings and classes of length zero are at a right
  /// angle to all others and get no gradient. Twice differentiable; no matrix is kept but the cosines.
  /// Throws c10::Error for other shapes, types or labels; a GPU's labels are left to its kernels, which end the
  /// program.
  at::Tensor forward(const at::Tensor& embeddings, const at::Tensor& labels = {}) {
    detail::check_embeddings(options, embeddings);
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto type = at::promote_types(detail::in_computing_type(embeddings).scalar_type(),
                                        detail::in_computing_type(weight).scalar_type());
    const at::Tensor rows = embeddings.to(type), classes = weight.to(type);
    const at::Tensor cosines = detail::cosines_between(rows, classes);
    if (!labels.defined()) return cosines * options.scale();
    detail::check_labels(options, embeddings, labels);
    const at::Tensor own = labels.to(at::kLong);
    const at::Tensor targets = detail::margin_of(options)(detail::angles_between(rows, classes.index_select(0, own)));
    return cosines.scatter(1, own.unsqueeze(1), targets.to(type).unsqueeze(1)) * options.scale();
  }

  ArcFaceOptions options;  ///< what it was made of
};

/// Holds an ArcFaceImpl as torch::nn::Linear holds a LinearImpl: mma::ArcFace head(512, 10575).
class ArcFace : public torch::nn::ModuleHolder<ArcFaceImpl> {
 public:
  using Impl = ArcFaceImpl;  ///< the module itself
  using torch::nn::ModuleHolder<ArcFaceImpl>::ModuleHolder;
};

}  // namespace mma
