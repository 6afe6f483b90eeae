// mma::ArcFace against its formula in a loop, its gradient against finite differences, at the borders too; and
// ArcFace+, which is it and a Regularizer over its weight.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/serialize.h>
#include <mma/mma.hpp>

#include <numbers>
#include <sstream>

#include "../peak_memory.hpp"
#include "error_message.hpp"
#include "objective_formulas.hpp"

namespace {

namespace nn = torch::nn;
using measured::message_of;
using measured::random_rows;
using measured::relative_error;
using reference::Real;

constexpr double pi = std::numbers::pi;

struct Margins {
  double m1, m2, m3;
};

const std::vector<Margins> all_margins = {{1, 0.5, 0},  {1, 0, 0.35}, {1, 0.3, 0.2}, {0.9, 0.4, 0.15},
                                          {1.35, 0, 0}, {4, 0, 0},    {0.8, 0.2, 0}, {1, 0, 0}};

/// Eq 15 with insightface's rule, from the angle.
Real target_formula(Real theta, const Margins& m) {
  if (m.m1 * theta + m.m2 < pi) return std::cos(m.m1 * theta + m.m2) - m.m3;
  const Real margin = pi - (pi - m.m2) / m.m1;  // m2 where m1 = 1
  const Real step = margin < 2.33 ? margin * std::sin(margin) : 1 - std::cos(margin);
  return std::cos(theta) - step - m.m3;
}

mma::ArcFace make_head(const at::Tensor& weight, const Margins& m, double scale = 64) {
  mma::ArcFace head(mma::ArcFaceOptions(weight.size(1), weight.size(0)).scale(scale).margins(m.m1, m.m2, m.m3));
  head->to(weight.scalar_type());
  const at::NoGradGuard no_grad;
  head->weight.copy_(weight);
  return head;
}

/// An embedding at the angle theta from class 0's weight, in a plane that neither lies in.
at::Tensor at_angle(const at::Tensor& weight, double theta, double length = 3) {
  const at::Tensor unit = weight[0] / weight[0].norm();
  at::Tensor other = random_rows({weight.size(1)}, 7, at::kDouble);
  other -= unit * unit.dot(other);
  other /= other.norm();
  return (length * (std::cos(theta) * unit + std::sin(theta) * other)).unsqueeze(0);
}

at::Tensor loss_of(mma::ArcFace& head, const at::Tensor& embeddings, const at::Tensor& labels) {
  return nn::functional::cross_entropy(head(embeddings, labels), labels);
}

TEST(ArcFace, LogitsAreTheFormulas) {
  const at::Tensor weight = random_rows({7, 5}, 1, at::kDouble);
  // Two far beyond the border: opposite their own class.
  const at::Tensor x = at::cat({random_rows({6, 5}, 2, at::kDouble), -2 * weight.narrow(0, 1, 2) + 0.05});
  const at::Tensor labels = at::tensor({3, 0, 6, 2, 2, 5, 1, 2}, at::kLong);
  const auto embeddings = reference::units(reference::rows_of(x)),
             classes = reference::units(reference::rows_of(weight));
  for (const Margins& m : all_margins) {
    for (const double scale : {64.0, 30.0}) {
      mma::ArcFace head = make_head(weight, m, scale);
      const at::Tensor logits = head(x, labels), plain = head(x);
      ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{8, 7}));
      for (size_t i = 0; i < 8; ++i) {
        for (size_t j = 0; j < 7; ++j) {
          const Real cosine = reference::cosine(embeddings[i], classes[j]);
          const bool own = labels[static_cast<int64_t>(i)].item<int64_t>() == static_cast<int64_t>(j);
          const Real expected = own ? target_formula(std::acos(cosine), m) : cosine;
          const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(j);
          EXPECT_NEAR(logits[row][column].item<double>(), static_cast<double>(scale * expected), 1e-11);
          EXPECT_NEAR(plain[row][column].item<double>(), static_cast<double>(scale * cosine), 1e-11);
        }
      }
    }
  }
}

TEST(ArcFace, TheTargetFallsAllTheWayToPi) {
  const at::Tensor weight = random_rows({3, 4}, 3, at::kDouble), label = at::zeros({1}, at::kLong);
  for (const Margins& m : all_margins) {
    mma::ArcFace head = make_head(weight, m, 1);
    double before = 2;
    for (int k = 0; k <= 500; ++k) {
      const double target = head(at_angle(weight, pi * k / 500), label)[0][0].item<double>();
      EXPECT_LE(target, before + 1e-15) << m.m1 << " " << m.m2 << " at " << k;
      EXPECT_NEAR(target, static_cast<double>(target_formula(pi * k / 500, m)), k % 500 == 0 ? 1e-15 : 0.02);
      before = target;
    }
  }
}

/// Central differences of the loss by each number of `at`, which the loss reads.
at::Tensor differences(at::Tensor at, const std::function<double()>& loss, double step) {
  const at::NoGradGuard no_grad;
  at::Tensor slopes = at::empty_like(at);
  for (int64_t i = 0; i < at.numel(); ++i) {
    at::Tensor number = at.view({-1})[i];
    const double value = number.item<double>();
    number.fill_(value + step);
    const double above = loss();
    number.fill_(value - step);
    const double below = loss();
    number.fill_(value);
    slopes.view({-1})[i].fill_((above - below) / (2 * step));
  }
  return slopes;
}

void expect_gradient(mma::ArcFace& head, const at::Tensor& x, const at::Tensor& labels, const std::string& what) {
  const at::Tensor embeddings = x.clone().requires_grad_();
  head->weight.mutable_grad() = at::Tensor();
  loss_of(head, embeddings, labels).backward();
  const auto loss = [&] { return loss_of(head, embeddings, labels).item<double>(); };
  const auto expect_near = [&](const at::Tensor& tensor, const char* name) {
    const at::Tensor expected = differences(tensor.detach(), loss, 1e-7);
    EXPECT_LT((tensor.grad() - expected).norm().item<double>(), 1e-5 * (1 + expected.norm().item<double>()))
        << what << ", " << name;
  };
  expect_near(embeddings, "embeddings");
  expect_near(head->weight, "weight");
}

TEST(ArcFace, GradientIsThatOfFiniteDifferences) {
  const at::Tensor weight = random_rows({6, 5}, 4, at::kDouble), x = random_rows({9, 5}, 5, at::kDouble);
  const at::Tensor labels = at::tensor({0, 1, 2, 3, 4, 5, 5, 5, 0}, at::kLong);
  for (const Margins& m : all_margins) {
    for (const double scale : {64.0, 4.0}) {
      mma::ArcFace head = make_head(weight, m, scale);
      expect_gradient(head, x, labels, "m1 = " + std::to_string(m.m1) + ", m2 = " + std::to_string(m.m2));
    }
  }
}

TEST(ArcFace, GradientIsThatOfFiniteDifferencesBesideTheBorders) {
  const at::Tensor weight = random_rows({6, 5}, 6, at::kDouble), label = at::zeros({1}, at::kLong);
  for (const Margins& m : all_margins) {
    mma::ArcFace head = make_head(weight, m, 8);
    const double border = std::min((pi - m.m2) / m.m1, pi - 0.01);
    for (const double theta : {1e-3, 1e-2, border - 1e-3, border + 1e-3, pi - 1e-2, pi - 1e-3}) {
      expect_gradient(head, at_angle(weight, theta), label, "theta = " + std::to_string(theta));
    }
  }
}

/// d target / d x has the length s m1 sin(m1 theta + m2) / |x|, also where a cosine in float32 has no angle left.
TEST(ArcFace, GradientIsExactAtSmallAngles) {
  const at::Tensor weight = random_rows({4, 5}, 8, at::kDouble), label = at::zeros({1}, at::kLong);
  for (const double theta : {1e-5, 1e-4, 1e-3, 0.1, 1.0, 2.0}) {
    mma::ArcFace head = make_head(weight.to(at::kFloat), {1, 0.5, 0});
    const at::Tensor x = at_angle(head->weight.detach().to(at::kDouble), theta).to(at::kFloat).requires_grad_();
    head(x, label)[0][0].backward();
    EXPECT_NEAR(x.grad().norm().item<double>() / (64 * std::sin(theta + 0.5) / 3), 1, theta < 1e-4 ? 2e-2 : 1e-3);
    mma::ArcFace wide = make_head(head->weight.detach().to(at::kDouble), {1, 0.5, 0});
    const at::Tensor same = x.detach().to(at::kDouble).requires_grad_();
    wide(same, label)[0][0].backward();
    EXPECT_LT(relative_error(x.grad(), same.grad()), 1e-5);
  }
}

TEST(ArcFace, IsFiniteAtTheClassItselfAndOppositeToIt) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor weight = random_rows({6, 5}, 9, type), labels = at::tensor({0, 1, 2, 3, 4}, at::kLong);
    // Equal, a multiple, opposite, zero, and a class of zeros.
    const at::Tensor x = at::stack({weight[0], 3 * weight[1], -weight[2], at::zeros({5}, type), weight[5]});
    weight[4].zero_();
    for (const Margins& m : all_margins) {
      mma::ArcFace head = make_head(weight, m);
      const at::Tensor embeddings = x.clone().requires_grad_();
      const at::Tensor logits = head(embeddings, labels);
      EXPECT_TRUE(logits.isfinite().all().item<bool>());
      EXPECT_NEAR(logits[0][0].item<double>(), 64 * static_cast<double>(target_formula(0, m)), 1e-4);
      EXPECT_NEAR(logits[3][3].item<double>(), 64 * static_cast<double>(target_formula(pi / 2, m)), 1e-4);
      EXPECT_EQ(logits[3][0].item<double>(), 0);
      EXPECT_EQ(logits[0][4].item<double>(), 0);
      loss_of(head, embeddings, labels).backward();
      EXPECT_TRUE(embeddings.grad().isfinite().all().item<bool>());
      EXPECT_TRUE(head->weight.grad().isfinite().all().item<bool>());
      EXPECT_EQ(embeddings.grad()[3].abs().max().item<double>(), 0);
      EXPECT_EQ(head->weight.grad()[4].abs().max().item<double>(), 0);
      const double largest = 64 * (1 + m.m1) / x[0].norm().item<double>();
      EXPECT_LT(embeddings.grad()[0].norm().item<double>(), largest);
    }
  }
  mma::ArcFace head = make_head(at::zeros({2, 3}), {1, 0.5, 0});  // neither an embedding nor a class
  const at::Tensor nothing = at::zeros({1, 3}).requires_grad_(), label = at::zeros({1}, at::kLong);
  EXPECT_NEAR(head(nothing, label)[0][0].item<double>(), 64 * std::cos(pi / 2 + 0.5), 1e-4);
  loss_of(head, nothing, label).backward();
  EXPECT_EQ(nothing.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(head->weight.grad().abs().max().item<double>(), 0);
}

TEST(ArcFace, IsTwiceDifferentiable) {
  const at::Tensor weight = random_rows({4, 5}, 10, at::kDouble), labels = at::tensor({0, 3}, at::kLong);
  mma::ArcFace head = make_head(weight, {1, 0.5, 0}, 4);
  const at::Tensor x = random_rows({2, 5}, 11, at::kDouble).requires_grad_(),
                   along = random_rows({2, 5}, 12, at::kDouble);
  const auto slope = [&](bool graph) {
    const at::Tensor loss = loss_of(head, x, labels);
    return (torch::autograd::grad({loss}, {x}, {}, graph, graph).front() * along).sum();
  };
  const at::Tensor second = torch::autograd::grad({slope(true)}, {x}).front();
  const at::Tensor values = x.detach(), expected = [&] {
    at::Tensor result = at::empty_like(values);
    for (int64_t i = 0; i < values.numel(); ++i) {
      at::Tensor number = values.view({-1})[i];
      const double value = number.item<double>();
      number.fill_(value + 1e-6);
      const double above = slope(false).item<double>();
      number.fill_(value - 1e-6);
      const double below = slope(false).item<double>();
      number.fill_(value);
      result.view({-1})[i].fill_((above - below) / 2e-6);
    }
    return result;
  }();
  EXPECT_LT(relative_error(second, expected), 1e-6);
}

TEST(ArcFace, HalfPrecisionIsComputedInFloat32) {
  const at::Tensor weight = random_rows({6, 5}, 13), labels = at::tensor({0, 1, 5}, at::kLong);
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    mma::ArcFace head = make_head(weight, {1, 0.5, 0}), low = make_head(weight.to(type), {1, 0.5, 0});
    const at::Tensor x = random_rows({3, 5}, 14, type).requires_grad_(),
                     wide = x.detach().to(at::kFloat).requires_grad_();
    const at::Tensor logits = head(x, labels);
    EXPECT_EQ(logits.scalar_type(), at::kFloat);
    EXPECT_TRUE(logits.equal(head(wide, labels)));
    loss_of(head, x, labels).backward();
    loss_of(head, wide, labels).backward();
    EXPECT_EQ(x.grad().scalar_type(), type);
    EXPECT_TRUE(x.grad().equal(wide.grad().to(type)));
    loss_of(low, x, labels).backward();
    EXPECT_EQ(low->weight.grad().scalar_type(), type);
  }
  mma::ArcFace wide = make_head(weight.to(at::kDouble), {1, 0.5, 0});
  EXPECT_EQ(wide(random_rows({3, 5}, 14), labels).scalar_type(), at::kDouble);
}

TEST(ArcFace, AutocastDoesNotReachIn) {
  mma::ArcFace head = make_head(random_rows({60, 50}, 15), {1, 0.5, 0});
  const at::Tensor x = random_rows({3, 50}, 16), labels = at::tensor({0, 1, 5}, at::kLong);
  const at::Tensor expected = head(x, labels), plain = head(x);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor inside = head(x, labels), plain_inside = head(x);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_TRUE(inside.equal(expected));
  EXPECT_TRUE(plain_inside.equal(plain));
}

TEST(ArcFace, WhatIsWrongIsNamed) {
  mma::ArcFace head(5, 7);
  const auto said = [&](const at::Tensor& x, const at::Tensor& labels) { return message_of([&] { head(x, labels); }); };
  const at::Tensor x = random_rows({2, 5}, 17);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {said(x, at::tensor({0, 7}, at::kLong)), "the label 7; expected labels from 0 to 6."},
      {said(x, at::tensor({-1, 3}, at::kLong)), "the label -1; expected labels from 0 to 6."},
      {said(x, at::tensor({1}, at::kLong)), "expected 2 integers, one for each embedding."},
      {said(x, at::zeros({2})), "type Float; expected 2 integers"},
      {said(random_rows({2, 4}, 17), at::tensor({0, 1}, at::kLong)),
       "shape [2, 4] and type Float; expected floating-point numbers, [batch, 5]."},
      {message_of([&] { head(random_rows({5}, 17)); }), "shape [5] and type Float; expected"},
      {message_of([&] {
         head(at::zeros({2, 5}, at::kLong));
       }),
       "type Long; expected floating-point"},
      {message_of([] { mma::ArcFace(0, 7); }), "embeddings of 0; expected 1 or more"},
      {message_of([] { mma::ArcFace(5, -1); }), "-1 identities"},
      {message_of([] { mma::ArcFace(mma::ArcFaceOptions(5, 7).scale(0)); }), "scale is 0; expected more than 0."},
      {message_of([] { mma::ArcFace(mma::ArcFaceOptions(5, 7).margin(3.2)); }), "m2 is 3.2; expected radians"},
      {message_of([] { mma::ArcFace(mma::ArcFaceOptions(5, 7).margins(0, 0, 0)); }), "m1 is 0; expected"},
      {message_of([] { mma::ArcFace(mma::ArcFaceOptions(5, 7).margins(1, 0, -0.1)); }), "m3 is -0.1; expected"}};
  for (const auto& [message, part] : cases) {
    EXPECT_NE(message.find(part), std::string::npos) << message << " instead of " << part;
  }
  EXPECT_EQ(head(x, at::tensor({0, 6}, at::kInt)).size(1), 7);
}

TEST(ArcFace, IsAModuleAsOthers) {
  mma::ArcFace head(mma::ArcFaceOptions(64, 300).scale(32).margins(1, 0.4, 0.1));
  EXPECT_NEAR(head->weight.std().item<double>(), 0.01, 3e-4);
  EXPECT_NEAR(head->weight.mean().item<double>(), 0, 3e-4);
  EXPECT_EQ(head->named_parameters().keys(), (std::vector<std::string>{"weight"}));
  std::ostringstream text;
  text << *head;
  EXPECT_EQ(text.str(), "mma::ArcFace(embedding=64, identities=300, scale=32, margins=(1, 0.4, 0.1))");

  head->to(at::kDouble);
  const at::Tensor x = random_rows({2, 64}, 18, at::kDouble), labels = at::tensor({5, 299}, at::kLong);
  auto copy = std::dynamic_pointer_cast<mma::ArcFaceImpl>(head->clone());
  ASSERT_NE(copy, nullptr);
  EXPECT_TRUE(copy->forward(x, labels).equal(head(x, labels)));
  EXPECT_NE(copy->weight.const_data_ptr(), head->weight.const_data_ptr());

  std::stringstream file;
  torch::save(head, file);
  mma::ArcFace loaded(mma::ArcFaceOptions(64, 300).scale(32).margins(1, 0.4, 0.1));
  loaded->to(at::kDouble);
  torch::load(loaded, file);
  EXPECT_TRUE(loaded(x, labels).equal(head(x, labels)));
}

/// The head comes last, as it does in a face network.
struct FaceNetwork : nn::Module {
  FaceNetwork() {
    register_module("conv", conv);
    register_module("fc", fc);
    register_module("head", head);
  }
  nn::Conv2d conv{nn::Conv2dOptions(1, 6, 3)};
  nn::Linear fc{6, 8};
  mma::ArcFace head{8, 20};
};

std::vector<std::string> names_of(FaceNetwork& network, const mma::Options& options) {
  std::vector<std::string> names;
  const mma::Regularizer<> regularizer(network, options);
  for (const mma::Layer& layer : regularizer.layers()) names.push_back(layer.name);
  return names;
}

TEST(ArcFacePlus, TheHeadIsTheOutputLayer) {
  using Names = std::vector<std::string>;
  FaceNetwork network;
  EXPECT_EQ(names_of(network, mma::Options().scope(mma::Scope::Output)), (Names{"head"}));
  EXPECT_EQ(names_of(network, mma::Options().scope(mma::Scope::Hidden)), (Names{"conv", "fc"}));
  EXPECT_EQ(names_of(network, mma::Options()), (Names{"conv", "fc", "head"}));
  mma::ArcFace alone(8, 20);
  EXPECT_EQ(mma::Regularizer<>(*alone, mma::Options().scope(mma::Scope::Output)).layers().size(), 1U);
}

TEST(ArcFacePlus, IsTheLossAndMmaOfTheHeadAlone) {
  FaceNetwork network;
  mma::Regularizer<> regularizer(network, mma::Options().scope(mma::Scope::Output).coefficient(0.03));
  const double expected = 0.03 * static_cast<double>(reference::minimal_angle_loss(network.head->weight));
  const at::Tensor loss = regularizer.loss();
  EXPECT_NEAR(loss.item<double>(), expected, 1e-6);
  loss.backward();
  EXPECT_FALSE(network.fc->weight.grad().defined());
  EXPECT_GT(network.head->weight.grad().norm().item<double>(), 0);
}

TEST(ArcFacePlus, WidensTheMinimalAngleOfATrainedHead) {
  const auto trained = [](double coefficient) {
    mma::ArcFace head = make_head(random_rows({12, 6}, 19), {1, 0.5, 0});
    mma::Regularizer<> regularizer(*head, mma::Options().coefficient(coefficient));
    const at::Tensor x = random_rows({12, 6}, 20), labels = at::arange(12, at::kLong);
    double last = 0;
    for (int step = 0; step < 200; ++step) {
      head->weight.mutable_grad() = at::Tensor();
      const at::Tensor loss = loss_of(head, x, labels);
      loss.backward();
      regularizer.accumulate_gradient();
      const at::NoGradGuard no_grad;
      head->weight.sub_(head->weight.grad(), 0.05);
      last = loss.item<double>();
    }
    return std::pair(last, regularizer.report().layers.front().mean_nearest_angle);
  };
  const auto [plain_loss, plain_angle] = trained(0);
  const auto [loss, angle] = trained(3);
  EXPECT_LT(plain_loss, 5);
  EXPECT_GT(angle, plain_angle + 0.02);
}

TEST(ArcFace, ForwardKeepsNoCopyOfItsWeight) {
  const at::NoGradGuard no_grad;
  mma::ArcFace head(512, 100000);  // 195 MiB; 4 embeddings' logits are 1.5 MiB
  const at::Tensor x = random_rows({4, 512}, 21), labels = at::tensor({0, 1, 2, 99999}, at::kLong);
  head(x.narrow(0, 0, 1), labels.narrow(0, 0, 1));
  at::Tensor loss;
  const auto peak = mma::tests::peak_bytes_of([&] { loss = head(x, labels); });
  EXPECT_TRUE(loss.isfinite().all().item<bool>());
  if (!peak) GTEST_SKIP() << "this system does not tell the peak of memory";
  EXPECT_LT(*peak, 60 << 20);
}

}  // namespace
