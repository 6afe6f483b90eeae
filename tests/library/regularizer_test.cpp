// mma::Regularizer: which layers it finds, that it stays in step with them, and that its sum is Eq 13.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/serialize.h>
#include <mma/mma.hpp>

#include <sstream>

#include "error_message.hpp"
#include "reference.hpp"

namespace {

namespace nn = torch::nn;
using measured::message_of;

/// conv (1 -> 6, 3x3), block.conv (6 -> 8, 1x1), fc (8 -> 5), head (5 -> 4).
struct Network : nn::Module {
  Network() {
    block->push_back("conv", nn::Conv2d(nn::Conv2dOptions(6, 8, 1)));
    register_module("conv", conv);
    register_module("block", block);
    register_module("fc", fc);
    register_module("head", head);
  }
  nn::Conv2dImpl& inner() { return *block[0]->as<nn::Conv2dImpl>(); }

  nn::Conv2d conv{nn::Conv2dOptions(1, 6, 3)};
  nn::Sequential block;
  nn::Linear fc{8, 5};
  nn::Linear head{5, 4};
};

double formula(const at::Tensor& weight) { return reference::minimal_angle_loss(weight.flatten(1)); }

std::vector<std::string> names_of(const mma::Regularizer<>& regularizer) {
  std::vector<std::string> names;
  for (const auto& layer : regularizer.layers()) {
    names.push_back(layer.name);
  }
  return names;
}

using Names = std::vector<std::string>;

std::string note_of(const mma::Report& report, const std::string& name) {
  for (const auto& layer : report.layers) {
    if (layer.name == name) {
      return layer.note;
    }
  }
  return "no such layer";
}

TEST(Selection, ScopesAndPatterns) {
  Network net;
  using mma::Options;
  using mma::Scope;
  const auto chosen = [&](const Options& options) { return names_of(mma::Regularizer<>(net, options)); };
  EXPECT_EQ(chosen({}), (Names{"conv", "block.conv", "fc", "head"}));
  EXPECT_EQ(chosen(Options().scope(Scope::Hidden)), (Names{"conv", "block.conv", "fc"}));
  EXPECT_EQ(chosen(Options().scope(Scope::Output)), (Names{"head"}));
  EXPECT_EQ(chosen(Options().scope(Scope::Output).output_layer("fc")), (Names{"fc"}));
  EXPECT_EQ(chosen(Options().include("*conv")), (Names{"conv", "block.conv"}));
  EXPECT_EQ(chosen(Options().include("*conv").exclude("block.*")), (Names{"conv"}));
}

TEST(Selection, ASlipOfThePenIsSaid) {
  Network net;
  for (const auto& options :
       {mma::Options().include("blok.*"), mma::Options().exclude("blok.*"), mma::Options().output_layer("blok.*")}) {
    const std::string text = message_of([&] { mma::Regularizer<> regularizer(net, options); });
    EXPECT_NE(text.find("blok.*"), std::string::npos) << text;
    EXPECT_NE(text.find("expected"), std::string::npos) << text;
  }
}

TEST(Regularizer, LossIsEq13) {
  Network net;
  mma::Regularizer<> regularizer(net,
                                 mma::Options().coefficient(0.07).coefficient("block.*", 0.5).coefficient("head", 0));
  const double expected =
      0.07 * formula(net.conv->weight) + 0.5 * formula(net.inner().weight) + 0.07 * formula(net.fc->weight);
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-6);
  const auto losses = regularizer.layer_losses();
  ASSERT_EQ(losses.size(), 4U);
  EXPECT_EQ(losses[3].first, "head");
  EXPECT_NEAR(losses[3].second.item<double>(), formula(net.head->weight), 1e-6);
}

TEST(Regularizer, GradientReachesEveryWeight) {
  Network net;
  mma::Regularizer<> regularizer(net, mma::Options().coefficient(0.5));
  regularizer.loss().backward();
  for (const at::Tensor& weight : {net.conv->weight, net.inner().weight, net.fc->weight, net.head->weight}) {
    const at::Tensor expected = 0.5 * reference::minimal_angle_gradient(weight.flatten(1));
    EXPECT_LT((weight.grad().flatten(1).to(at::kDouble) - expected).abs().max().item<double>(), 1e-6);
  }
  EXPECT_FALSE(net.fc->bias.grad().defined());
}

TEST(Regularizer, AccumulateGradientGivesTheNumbersOfBackward) {
  Network net;
  net.conv->weight.set_data(net.conv->weight.contiguous(at::MemoryFormat::ChannelsLast));
  nn::ConvTranspose2d transposed(nn::ConvTranspose2dOptions(4, 6, 3).groups(2));
  net.register_module("transposed", transposed);
  mma::Regularizer<> regularizer(net);
  const double value = regularizer.accumulate_gradient().item<double>();
  std::vector<at::Tensor> accumulated;
  for (const auto& parameter : net.parameters()) {
    accumulated.push_back(parameter.grad());
    parameter.mutable_grad() = at::Tensor();
  }
  const at::Tensor loss = regularizer.loss();
  EXPECT_EQ(value, loss.item<double>());
  loss.backward();
  size_t k = 0;
  for (const auto& [name, parameter] : net.named_parameters().pairs()) {
    ASSERT_EQ(parameter.grad().defined(), accumulated[k].defined()) << name;
    if (parameter.grad().defined()) {
      EXPECT_TRUE(parameter.grad().equal(accumulated[k])) << name;
      EXPECT_EQ(parameter.grad().strides(), parameter.strides()) << name;
    }
    ++k;
  }
  // It adds to what is there, times the scale.
  const at::Tensor before = net.fc->weight.grad().clone();
  EXPECT_FALSE(regularizer.accumulate_gradient(2.0).requires_grad());
  EXPECT_TRUE(at::allclose(net.fc->weight.grad(), 3 * before, 1e-5, 1e-8));
}

TEST(Regularizer, LayersOfEqualShapeInOneBatchGiveTheSameNumbers) {
  Network many;
  nn::ModuleList list;
  many.register_module("list", list);
  for (int k = 0; k < 9; ++k) {
    list->push_back(nn::Linear(12, 17));
  }
  mma::Regularizer<> regularizer(many, mma::Options().include("list.*").coefficient(1));
  double expected = 0;
  for (const auto& module : *list) {
    expected += formula(module->as<nn::LinearImpl>()->weight);
  }
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-5);
}

TEST(Regularizer, StepsKeepItInStep) {
  Network net;
  mma::Regularizer<> regularizer(net, mma::Options().coefficient(1));
  const auto expected = [&] {
    return formula(net.conv->weight) + formula(net.inner().weight) + formula(net.fc->weight) +
           formula(net.head->weight);
  };
  regularizer.loss();
  {
    const at::NoGradGuard no_grad;
    net.fc->weight.add_(at::randn_like(net.fc->weight));  // an optimizer's step
  }
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(), 1e-5);
  net.to(at::kDouble);
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(), 1e-12);
  EXPECT_EQ(regularizer.loss().scalar_type(), at::kDouble);

  auto other = std::make_shared<Network>();
  other->to(at::kDouble);
  std::stringstream archive;
  torch::save(other, archive);
  torch::serialize::InputArchive input;
  input.load_from(archive);
  net.load(input);
  EXPECT_NEAR(regularizer.loss().item<double>(),
              mma::Regularizer<>(*other, mma::Options().coefficient(1)).loss().item<double>(), 1e-12);
}

TEST(Regularizer, ReadsTheMemberNotTheRegistry) {
  auto net = std::make_shared<Network>();
  mma::Regularizer<> regularizer(*net, mma::Options().include("fc").coefficient(1));
  regularizer.loss();
  net->fc->weight = at::randn({5, 8}).requires_grad_();
  EXPECT_NEAR(regularizer.loss().item<double>(), formula(net->fc->weight), 1e-6);
}

TEST(Regularizer, ModulesOnTheStackAndModulesThatAreGone) {
  nn::LinearImpl alone(7, 9);
  EXPECT_NEAR(mma::Regularizer<>(alone, mma::Options().coefficient(1)).loss().item<double>(), formula(alone.weight),
              1e-6);

  auto net = std::make_unique<Network>();
  mma::Regularizer<> regularizer(*net, mma::Options().coefficient(1));
  const double value = regularizer.loss().item<double>();
  net.reset();
  EXPECT_EQ(regularizer.loss().item<double>(), value);
  regularizer.loss().backward();
}

TEST(Regularizer, TensorsAddedByHand) {
  at::Tensor prototypes = at::randn({5, 3}).requires_grad_();
  mma::Regularizer<> regularizer(mma::Options().coefficient(2).coefficient("prototypes", 0.25));
  regularizer.add("prototypes", prototypes);
  EXPECT_NEAR(regularizer.loss().item<double>(), 0.25 * formula(prototypes), 1e-6);
  const at::Tensor columns = at::randn({3, 6}).requires_grad_();
  regularizer.add("columns", columns, {.transposed = true});
  EXPECT_NEAR(regularizer.loss().item<double>(), 0.25 * formula(prototypes) + 2 * formula(columns.t()), 1e-6);
  EXPECT_NE(message_of([&] {
              regularizer.add("numbers", at::ones({2, 2}, at::kLong));
            }).find("'numbers'"),
            std::string::npos);
}

TEST(Regularizer, ComputedWeightsHaveALossButNoGradOfTheirOwn) {
  const at::Tensor direction = at::randn({5, 3}).requires_grad_();
  mma::Regularizer<> regularizer(mma::Options().coefficient(1));
  regularizer.add("computed", [&] { return direction * 2; });
  regularizer.loss().backward();
  EXPECT_TRUE(direction.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_NEAR(regularizer.loss().item<double>(), formula(direction), 1e-6);
  EXPECT_EQ(note_of(regularizer.report(), "computed"), "");
  EXPECT_NE(message_of([&] { regularizer.accumulate_gradient(); }).find("'computed'"), std::string::npos);
}

TEST(Regularizer, ANegativeCoefficientPullsRowsTogether) {
  const at::Tensor weight = at::randn({5, 3}).requires_grad_();
  mma::Regularizer<> regularizer(mma::Options().coefficient(-0.5));
  regularizer.add("weight", weight);
  EXPECT_NEAR(regularizer.loss().item<double>(), -0.5 * formula(weight), 1e-6);
  EXPECT_EQ(regularizer.accumulate_gradient().item<double>(), regularizer.loss().item<double>());
}

TEST(Regularizer, NothingToRegularizeIsZero) {
  mma::Regularizer<> regularizer{mma::Options()};
  EXPECT_EQ(regularizer.loss().item<double>(), 0);
  EXPECT_EQ(regularizer.accumulate_gradient().item<double>(), 0);
}

TEST(WeightRows, EveryKindOfLayer) {
  // Each layer's rows written out by index, compared one by one.
  const auto check = [](torch::nn::Module& module, const at::Tensor& weight, bool transposed, int64_t groups) {
    mma::Regularizer<> regularizer(module);
    ASSERT_EQ(regularizer.layers().size(), 1U);
    const at::Tensor rows = regularizer.layers().front().rows();
    const int64_t outputs = transposed ? weight.size(1) * groups : weight.size(0);
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t group = o / (outputs / groups), index = o % (outputs / groups);
      const int64_t inputs = weight.size(0) / groups;
      const at::Tensor filter = transposed ? weight.narrow(0, group * inputs, inputs).select(1, index) : weight[o];
      EXPECT_TRUE(rows[group][index].equal(filter.reshape({-1}))) << "output channel " << o;
    }
  };
  nn::Linear linear(5, 7);
  check(*linear, linear->weight, false, 1);
  nn::Conv1d conv1(nn::Conv1dOptions(4, 6, 3));
  check(*conv1, conv1->weight, false, 1);
  nn::Conv2d conv2(nn::Conv2dOptions(4, 6, {3, 2}).groups(2));
  check(*conv2, conv2->weight, false, 2);
  nn::Conv3d conv3(nn::Conv3dOptions(2, 3, {1, 2, 3}));
  check(*conv3, conv3->weight, false, 1);
  nn::ConvTranspose1d transposed1(nn::ConvTranspose1dOptions(4, 6, 3).groups(2));
  check(*transposed1, transposed1->weight, true, 2);
  nn::ConvTranspose2d transposed2(nn::ConvTranspose2dOptions(4, 6, 3));
  check(*transposed2, transposed2->weight, true, 1);
  nn::ConvTranspose3d transposed3(nn::ConvTranspose3dOptions(4, 6, 2).groups(2));
  check(*transposed3, transposed3->weight, true, 2);
}

TEST(Semantics, ConvTransposeRowsAreOutputChannels) {
  nn::ConvTranspose2d layer(nn::ConvTranspose2dOptions(5, 7, 3));
  mma::Regularizer<> regularizer(*layer, mma::Options().coefficient(1));
  EXPECT_NEAR(regularizer.loss().item<double>(), formula(layer->weight.transpose(0, 1)), 1e-6);
}

TEST(Semantics, GroupsAreComparedWithinThemselves) {
  nn::Conv2d layer(nn::Conv2dOptions(6, 12, 3).groups(3));
  const at::Tensor weight = layer->weight.detach();
  double expected = 0;
  for (int64_t group = 0; group < 3; ++group) {
    expected += formula(weight.narrow(0, group * 4, 4)) / 3;
  }
  EXPECT_NEAR(mma::Regularizer<>(*layer, mma::Options().coefficient(1)).loss().item<double>(), expected, 1e-6);
  EXPECT_NEAR(mma::Regularizer<>(*layer, mma::Options().coefficient(1).across_groups(true)).loss().item<double>(),
              formula(weight), 1e-6);
}

TEST(Semantics, GroupsWithoutTwoUsableRowsDoNotCount) {
  nn::Conv2d layer(nn::Conv2dOptions(6, 12, 3).groups(3));
  const at::Tensor weight = layer->weight.detach();
  weight.narrow(0, 0, 3).zero_();  // group 0 keeps one row
  weight[4].zero_();               // group 1 keeps three
  const double expected = (3 * formula(weight.narrow(0, 5, 3)) + 4 * formula(weight.narrow(0, 8, 4))) / 7;
  mma::Regularizer<> regularizer(*layer, mma::Options().coefficient(1));
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-6);
  regularizer.loss().backward();
  EXPECT_TRUE(layer->weight.grad().isfinite().all().item<bool>());
  EXPECT_EQ(regularizer.report().layers.front().zero_rows, 4);
}

TEST(Semantics, DepthwiseConvolutionsHaveNothingToCompare) {
  nn::Conv2d layer(nn::Conv2dOptions(8, 8, 3).groups(8));
  mma::Regularizer<> regularizer(*layer);
  EXPECT_EQ(regularizer.loss().item<double>(), 0);
  EXPECT_EQ(note_of(regularizer.report(), "(module)"), "fewer than 2 rows");
}

TEST(Semantics, FewerThanTwoUsableRowsAreReported) {
  Network net;
  mma::Regularizer<> regularizer(net, mma::Options().include("fc").coefficient(1));
  {
    const at::NoGradGuard no_grad;
    net.fc->weight.narrow(0, 1, 4).zero_();
  }
  EXPECT_EQ(regularizer.loss().item<double>(), 0);
  EXPECT_EQ(note_of(regularizer.report(), "fc"), "fewer than 2 rows that are not zero");
  mma::Regularizer<> larger(net, mma::Options().minimum_rows(6));
  EXPECT_EQ(note_of(larger.report(), "head"), "fewer than 6 rows");
}

TEST(Semantics, NanIsNamedInTheReport) {
  Network net;
  {
    const at::NoGradGuard no_grad;
    net.inner().weight[2][1] = std::nan("");
  }
  mma::Regularizer<> regularizer(net);
  EXPECT_TRUE(regularizer.loss().isnan().item<bool>());  // std::isnan is always false by -Ofast
  EXPECT_EQ(note_of(regularizer.report(), "block.conv"), "has NaN or Inf");
  EXPECT_EQ(note_of(regularizer.report(), "conv"), "");
}

TEST(Semantics, TiedWeightsCountOnce) {
  Network net;
  nn::Linear tied(8, 5);
  net.register_module("tied", tied);
  tied->weight = net.fc->weight;
  mma::Regularizer<> regularizer(net, mma::Options().coefficient(1).include("fc").include("tied"));
  EXPECT_NEAR(regularizer.loss().item<double>(), formula(net.fc->weight), 1e-6);
  EXPECT_EQ(note_of(regularizer.report(), "tied"), "tied to fc");
}

TEST(Semantics, FrozenWeightsAreInTheReportOnly) {
  Network net;
  mma::Regularizer<> regularizer(net, mma::Options().coefficient(1).include("fc").include("head"));
  regularizer.loss();
  net.fc->weight.set_requires_grad(false);  // after construction
  EXPECT_NEAR(regularizer.loss().item<double>(), formula(net.head->weight), 1e-6);
  regularizer.accumulate_gradient();
  EXPECT_FALSE(net.fc->weight.grad().defined());
  EXPECT_EQ(note_of(regularizer.report(), "fc"), "frozen");
  EXPECT_GT(regularizer.report().layers.front().minimal_angle, 0);
}

TEST(Semantics, HalfPrecisionLayersGetTheirGradientBack) {
  Network net;
  net.to(at::kBFloat16);
  mma::Regularizer<> regularizer(net);
  const at::Tensor loss = regularizer.loss();
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  loss.backward();
  EXPECT_EQ(net.fc->weight.grad().scalar_type(), at::kBFloat16);
  const at::Tensor with_graph = net.fc->weight.grad().clone();
  net.zero_grad();
  regularizer.accumulate_gradient();
  EXPECT_TRUE(net.fc->weight.grad().equal(with_graph));
}

TEST(Semantics, BadTensorsAreNamed) {
  Network net;
  mma::Regularizer<> regularizer(net);
  net.fc->weight = at::Tensor();
  EXPECT_NE(message_of([&] { regularizer.loss(); }).find("'fc'"), std::string::npos);
  EXPECT_NE(message_of([&] { regularizer.accumulate_gradient(); }).find("'fc'"), std::string::npos);
}

/// A user's own objective: the mean squared cosine, written without regard for the library.
struct MeanSquaredCosine {
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor&) const {
    const at::Tensor unit = rows / rows.norm(2, -1, true);
    return unit.bmm(unit.transpose(1, 2)).square().mean({1, 2});
  }
};

TEST(Objectives, AUsersOwnPlugsIn) {
  Network net;
  mma::Regularizer<MeanSquaredCosine> regularizer(net, mma::Options().coefficient(0.5).include("fc"));
  const at::Tensor unit = net.fc->weight / net.fc->weight.norm(2, 1, true);
  const at::Tensor expected = 0.5 * unit.mm(unit.t()).square().mean();
  EXPECT_NEAR(regularizer.loss().item<double>(), expected.item<double>(), 1e-6);
  expected.backward();
  const at::Tensor gradient = net.fc->weight.grad().clone();
  net.zero_grad();
  regularizer.accumulate_gradient();
  EXPECT_TRUE(at::allclose(net.fc->weight.grad(), gradient, 1e-5, 1e-7));
}

TEST(Objectives, AWrongShapeIsSaid) {
  struct Scalar {
    at::Tensor operator()(const at::Tensor& rows, const at::Tensor&) const { return rows.sum(); }
  };
  Network net;
  mma::Regularizer<Scalar> regularizer(net);
  EXPECT_NE(message_of([&] { regularizer.loss(); }).find("one value for each"), std::string::npos);
}

TEST(Regularizer, StateGoesRoundAndLacksNothing) {
  Network net;
  mma::Regularizer<> first(net), second(net);
  first.loss();
  first.accumulate_gradient();
  second.load_state(first.state());
  EXPECT_EQ(second.state().at("step").item<int64_t>(), 2);
  EXPECT_NE(message_of([&] { second.load_state({}); }).find("step"), std::string::npos);
}

TEST(Regularizer, SgdRaisesTheMinimalAngles) {
  at::manual_seed(1);
  Network net;
  mma::Regularizer<> regularizer(net, mma::Options().coefficient(1));
  const double before = regularizer.report().layers.front().minimal_angle;
  for (int step = 0; step < 100; ++step) {
    net.zero_grad();
    regularizer.accumulate_gradient();
    const at::NoGradGuard no_grad;
    for (const auto& parameter : net.parameters()) {
      if (parameter.grad().defined()) {
        parameter.sub_(0.05 * parameter.grad());
      }
    }
  }
  EXPECT_GT(regularizer.report().layers.front().minimal_angle, before + 0.2);
}

}  // namespace
