// Every objective through mma::Regularizer: Eq 13's sum, both ways to its gradient, random numbers and their state,
// wrong parameters, and a user's own objective.
#include <ATen/ATen.h>
#include <c10/util/Type.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <mma/mma.hpp>

#include <cmath>
#include <set>
#include <tuple>

#include "error_message.hpp"
#include "objective_formulas.hpp"

namespace {

namespace nn = torch::nn;
using measured::random_rows;
using measured::relative_error;

/// Layers of three shapes, two of them equal, one with duplicates.
struct Network : nn::Module {
  Network() {
    register_module("first", first);
    register_module("second", second);
    register_module("third", third);
    register_module("head", head);
    const at::NoGradGuard no_grad;
    uint64_t seed = 100;
    for (const at::Tensor& weight : weights()) {
      weight.copy_(random_rows(weight.sizes(), seed++));
    }
    second->weight[3].copy_(2 * second->weight[0]);
  }
  std::vector<at::Tensor> weights() { return {first->weight, second->weight, third->weight, head->weight}; }
  std::vector<at::Tensor> take_gradients() {
    std::vector<at::Tensor> result;
    for (at::Tensor& weight : parameters()) {
      if (weight.grad().defined()) result.push_back(weight.grad());
      weight.mutable_grad() = at::Tensor();
    }
    return result;
  }

  nn::Conv2d first{nn::Conv2dOptions(2, 10, 3)};
  nn::Linear second{18, 10};
  nn::Linear third{10, 12};
  nn::Linear head{12, 5};
};

void expect_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    EXPECT_TRUE(a[k].equal(b[k])) << k;
  }
}

/// Calls check with each objective.
template <typename Check>
void for_each_objective(const Check& check) {
  using All = std::tuple<mma::MinimalAngle, mma::MaximalCosine, mma::MutualCoherence, mma::RieszFisher,
                         mma::Logarithmic, mma::Orthogonal, mma::SimplexTarget, mma::SpectralIsometry,
                         mma::DoubleSoftOrthogonality, mma::Centred<>, mma::Centred<mma::SpectralIsometry>,
                         mma::Sampled<>, mma::Sampled<mma::SpectralIsometry>>;
  std::apply([&](const auto&... objective) { (check(objective), ...); }, All{});
}

/// Both ways to the value.
template <typename Objective>
void expect_nan(nn::Module& net, const Objective& objective, const char* what) {
  mma::Regularizer<Objective> regularizer(net, objective, mma::Options());
  EXPECT_TRUE(std::isnan(regularizer.loss().template item<double>())) << what;
  EXPECT_TRUE(std::isnan(regularizer.accumulate_gradient().template item<double>())) << what;
}

TEST(Regularizers, NanAndInfMakeTheValueNanAlsoWhereTooFewRowsAreUsable) {
  for_each_objective([](const auto& objective) {
    SCOPED_TRACE(c10::demangle_type<std::decay_t<decltype(objective)>>());
    const at::NoGradGuard no_grad;
    for (const double bad : {std::nan(""), double{INFINITY}}) {
      nn::Linear two(33, 2);
      at::Tensor weight = two->weight;
      weight.zero_()[0][7] = bad;  // one row that is not zero
      expect_nan(*two, objective, "two rows");
      weight[0][7] = 1;
      mma::Regularizer<std::decay_t<decltype(objective)>> finite(*two, objective, mma::Options());
      EXPECT_EQ(finite.loss().template item<double>(), 0);

      nn::Conv2d grouped(nn::Conv2dOptions(6, 8, 3).groups(2));
      weight = grouped->weight;
      weight.copy_(random_rows(weight.sizes(), 104)).slice(0, 0, 4).zero_();
      weight[1][0][0][0] = bad;  // the other group is as it should be
      expect_nan(*grouped, objective, "a group of two");
    }
  });
}

TEST(Regularizers, LossIsTheSumOverLayersAndBothGradientsAreItsDerivative) {
  for_each_objective([](const auto& one) {
    using Objective = std::decay_t<decltype(one)>;
    SCOPED_TRACE(c10::demangle_type<Objective>());
    Network net;
    const auto options = mma::Options().coefficient(0.3).coefficient("head", 2);
    mma::Regularizer<Objective> regularizer(net, options);
    const at::Tensor loss = regularizer.loss();
    loss.backward();
    const auto by_backward = net.take_gradients();
    ASSERT_EQ(by_backward.size(), 4U);

    // The plain function: the two layers of equal shape are one batch, as a draw of random numbers is made for a batch.
    Objective objective;
    const auto plain = [&](const at::Tensor& weights) { return mma::detail::loss_of(objective, weights, "plain"); };
    std::vector<at::Tensor> copies;
    for (const at::Tensor& weight : net.weights()) copies.push_back(weight.detach().clone().requires_grad_());
    const at::Tensor pair = plain(at::stack({copies[0].flatten(1), copies[1]})).sum();
    const at::Tensor third = plain(copies[2]), head = plain(copies[3]);  // in this order
    const at::Tensor expected = 0.3 * (pair + third) + 2 * head;
    EXPECT_NEAR(loss.item<double>() / expected.item<double>(), 1, 1e-6);
    expected.backward();
    for (size_t k = 0; k < 4; ++k) EXPECT_LT(relative_error(by_backward[k], copies[k].grad()), 1e-6) << k;

    mma::Regularizer<Objective> again(net, options);
    EXPECT_EQ(again.accumulate_gradient().template item<double>(), loss.template item<double>());
    const auto accumulated = net.take_gradients();
    for (size_t k = 0; k < 4; ++k) EXPECT_LT(relative_error(accumulated[k], by_backward[k]), 1e-6) << k;
  });
}

TEST(Regularizers, AnyObjectiveGivesTheSame) {
  for_each_objective([](const auto& one) {
    using Objective = std::decay_t<decltype(one)>;
    SCOPED_TRACE(c10::demangle_type<Objective>());
    Network net;
    mma::Regularizer<Objective> direct(net);
    mma::Regularizer<mma::AnyObjective> any(net, mma::AnyObjective(Objective{}));
    for (int step = 0; step < 2; ++step) {
      EXPECT_EQ(any.loss().template item<double>(), direct.loss().template item<double>());
      direct.accumulate_gradient();
      const auto expected = net.take_gradients();
      any.accumulate_gradient();
      expect_equal(net.take_gradients(), expected);
    }
    EXPECT_EQ(any.state().size(), direct.state().size());
  });
}

TEST(Regularizers, TheProgramsRandomNumbersAreUntouched) {
  for_each_objective([](const auto& one) {
    using Objective = std::decay_t<decltype(one)>;
    SCOPED_TRACE(c10::demangle_type<Objective>());
    Network net;
    mma::Regularizer<Objective> regularizer(net);
    const at::Tensor before = at::globalContext().defaultGenerator(at::kCPU).get_state().clone();
    regularizer.loss();
    regularizer.accumulate_gradient();
    EXPECT_TRUE(at::globalContext().defaultGenerator(at::kCPU).get_state().equal(before));
  });
}

/// The regularizers that draw.
std::vector<std::pair<std::string, std::function<mma::AnyObjective(uint64_t)>>> drawing() {
  return {{"riesz", [](uint64_t seed) { return mma::RieszFisher{.share = 0.3, .random = {.seed = seed}}; }},
          {"log", [](uint64_t seed) { return mma::Logarithmic{.share = 0.5, .random = {.seed = seed}}; }},
          {"lines",
           [](uint64_t seed) { return mma::RieszFisher{.half_space = true, .share = 0.5, .random = {.seed = seed}}; }},
          {"srip", [](uint64_t seed) { return mma::SpectralIsometry{.random = {.seed = seed}}; }},
          {"centred",
           [](uint64_t seed) { return mma::Centred<mma::RieszFisher>{{.share = 0.3, .random = {.seed = seed}}}; }},
          {"sampled", [](uint64_t seed) { return mma::Sampled<>{.share = 0.4, .random = {.seed = seed}}; }},
          {"sampled srip", [](uint64_t seed) {
             return mma::Sampled<mma::SpectralIsometry>{.share = 0.5, .objective = {.random = {.seed = seed}}};
           }}};
}

TEST(RandomDraws, TheSameSeedGivesTheSameNumbersAndEachStepOthers) {
  for (const auto& [name, make] : drawing()) {
    Network net;
    mma::Regularizer<mma::AnyObjective> first(net, make(3)), second(net, make(3)), other(net, make(4));
    const double one = first.loss().item<double>(), two = first.loss().item<double>();
    EXPECT_EQ(second.loss().item<double>(), one) << name;
    EXPECT_EQ(second.accumulate_gradient().item<double>(), two) << name;
    EXPECT_NE(one, two) << name;
    EXPECT_NE(other.loss().item<double>(), one) << name;
  }
}

TEST(RandomDraws, AResumedRunGoesOnBitForBit) {
  for (const auto& [name, make] : drawing()) {
    Network net;
    mma::Regularizer<mma::AnyObjective> first(net, make(3)), resumed(net, make(3));
    first.loss();
    first.accumulate_gradient();
    net.take_gradients();
    resumed.load_state(first.state());
    const double value = first.accumulate_gradient().item<double>();
    const auto slopes = net.take_gradients();
    EXPECT_EQ(resumed.accumulate_gradient().item<double>(), value) << name;
    expect_equal(net.take_gradients(), slopes);
  }
}

TEST(RandomDraws, LookingAtTheLayersDoesNotChangeTheTraining) {
  for (const auto& [name, make] : drawing()) {
    Network net;
    mma::Regularizer<mma::AnyObjective> watched(net, make(3)), alone(net, make(3));
    EXPECT_EQ(watched.layer_losses().size(), 4U);
    EXPECT_EQ(watched.loss().item<double>(), alone.loss().item<double>()) << name;
  }
}

TEST(RandomDraws, AStateWithoutItsDrawsIsRefused) {
  Network net;
  mma::Regularizer<mma::RieszFisher> regularizer(net);
  auto state = regularizer.state();
  ASSERT_EQ(state.erase("objective.draws"), 1U);
  EXPECT_THROW(regularizer.load_state(state), c10::Error);
}

TEST(MiniBatch, CountsItsShareOfTheRows) {
  // Rows that are drawn get a gradient: 0.3 n, rounded, at least two.
  for (const auto& [n, share, expected] :
       {std::tuple{20, 0.3, 6}, {25, 0.3, 8}, {24, 0.3, 7}, {5, 0.3, 2}, {3, 0.01, 2}, {40, 0.99, 40}, {7, 1.0, 7}}) {
    mma::RieszFisher objective{.share = share};
    const at::Tensor rows = random_rows({3, n, 6}, 110);
    const auto slopes = objective.value_and_gradient(rows, at::ones({3, n}, at::kBool), at::ones({3})).second;
    const at::Tensor touched = slopes.abs().amax(-1) > 0;
    EXPECT_TRUE((touched.sum(-1) == expected).all().item<bool>()) << n << " " << share;
    EXPECT_EQ(touched[0].equal(touched[1]), expected == n || n == 3) << n << " " << share;
  }
}

TEST(MiniBatch, IsTheEnergyOfTheRowsItDraws) {
  const at::Tensor rows = random_rows({1, 30, 6}, 111, at::kDouble), usable = at::ones({1, 30}, at::kBool);
  mma::Logarithmic objective{.share = 0.4};
  const auto [value, slopes] = objective.value_and_gradient(rows, usable, at::ones({1}, at::kDouble));
  const at::Tensor drawn = (slopes[0].abs().amax(-1) > 0).nonzero().squeeze(1);
  const at::Tensor part = rows[0].index_select(0, drawn);
  EXPECT_NEAR(value.item<double>(), static_cast<double>(reference::energy(reference::rows_of(part), 0, 1e-2)), 1e-12);
  EXPECT_LT(relative_error(slopes[0].index_select(0, drawn), measured::gradient(mma::Logarithmic{}, part)), 1e-12);
}

TEST(MiniBatch, ItsMeanIsTheFullEnergy) {
  const at::Tensor rows = random_rows({64, 25, 6}, 112, at::kDouble).narrow(0, 0, 1).expand({64, 25, 6}).contiguous();
  mma::RieszFisher objective{.s = 1, .share = 0.3};
  at::Tensor values = at::zeros({0}, at::kDouble);
  for (int step = 0; step < 30; ++step) {
    values = at::cat({values, objective(rows, at::ones({64, 25}, at::kBool))});
  }
  const double expected = mma::riesz_fisher_loss(rows[0], {.s = 1}).item<double>();
  const double error = values.std().item<double>() / std::sqrt(64.0 * 30);
  EXPECT_NEAR(values.mean().item<double>(), expected, 4 * error);
  EXPECT_LT(4 * error, 0.02 * expected);
}

TEST(Sampled, IsTheObjectiveOfTheRowsItDraws) {
  const at::Tensor rows = random_rows({2, 40, 6}, 114, at::kDouble), usable = at::ones({2, 40}, at::kBool);
  mma::Sampled<> objective{.share = 0.3}, again{.share = 0.3};
  std::set<std::string> samples;
  for (int step = 0; step < 3; ++step) {
    const auto [value, slopes] = objective.value_and_gradient(rows, usable, at::ones({2}, at::kDouble));
    const at::Tensor leaf = rows.clone().requires_grad_(), by_autograd = again(leaf, usable);
    by_autograd.sum().backward();
    EXPECT_TRUE(by_autograd.equal(value));
    EXPECT_LT(relative_error(slopes, leaf.grad()), 1e-12);
    for (int64_t b = 0; b < 2; ++b) {
      const at::Tensor drawn = (slopes[b].abs().amax(-1) > 0).nonzero().squeeze(1);
      ASSERT_EQ(drawn.numel(), 12);
      const at::Tensor part = rows[b].index_select(0, drawn);
      EXPECT_NEAR(value[b].item<double>(), static_cast<double>(reference::minimal_angle_loss(part)), 1e-12);
      EXPECT_LT(relative_error(slopes[b].index_select(0, drawn), measured::gradient(mma::MinimalAngle{}, part)), 1e-12);
      samples.insert(c10::str(drawn));
    }
  }
  EXPECT_EQ(samples.size(), 6U);
}

/// Every row has its turn: the mean gradient over many draws leaves none out.
TEST(Sampled, EveryRowIsDrawnAsOften) {
  mma::Sampled<> objective{.share = 0.25};
  const at::Tensor rows = random_rows({1, 20, 6}, 115), usable = at::ones({1, 20}, at::kBool);
  at::Tensor times = at::zeros({20}, at::kLong);
  for (int step = 0; step < 2000; ++step) {
    times += objective.value_and_gradient(rows, usable, at::ones({1})).second[0].abs().amax(-1) > 0;
  }
  EXPECT_EQ(times.sum().item<int64_t>(), 10000);
  EXPECT_NEAR(times.min().item<double>(), 500, 100);  // five deviations of 19.4
  EXPECT_NEAR(times.max().item<double>(), 500, 100);
}

TEST(Sampled, ZeroRowsInTheSampleAreLeftOut) {
  at::Tensor rows = random_rows({30, 6}, 116);
  rows.narrow(0, 0, 28).zero_();
  for (int step = 0; step < 20; ++step) {
    mma::Sampled<> objective{.share = 0.5, .random = {.seed = static_cast<uint64_t>(step)}};
    EXPECT_TRUE(measured::gradient(objective, rows).isfinite().all().item<bool>());
  }
}

TEST(Parameters, AWrongOneIsNamed) {
  const std::vector<std::pair<mma::AnyObjective, std::string>> wrong = {
      {mma::RieszFisher{.s = -1}, "power s is -1"},
      {mma::RieszFisher{.s = std::nan("")}, "power s is nan"},
      {mma::RieszFisher{.s = INFINITY}, "power s is inf"},
      {mma::Logarithmic{.share = 0}, "share of the rows is 0"},
      {mma::Logarithmic{.share = 2}, "share of the rows is 2"},
      {mma::Logarithmic{.share = std::nan("")}, "share of the rows is nan"},
      {mma::Logarithmic{.closest = 0}, "closest distance is 0"},
      {mma::Logarithmic{.closest = -1}, "closest distance is -1"},
      {mma::Logarithmic{.closest = 2}, "closest distance is 2"},
      {mma::Sampled<>{.share = 0}, "share of the rows is 0"},
      {mma::Sampled<>{.share = 1.5}, "share of the rows is 1.5"},
      {mma::SpectralIsometry{.iterations = 0}, "0 iterations"},
      {mma::Centred<mma::RieszFisher>{{.s = -2}}, "power s is -2"}};
  for (const auto& [objective, text] : wrong) {
    const std::string message = measured::message_of([&wrong_one = objective] {
      measured::loss(wrong_one, random_rows({5, 4}, 113));
    });  // clang 14 wants a name
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_NE(message.find("expected"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_THROW(measured::value_and_gradient(objective, random_rows({5, 4}, 113)), c10::Error) << text;
  }
}

/// A user's own: the mean squared cosine above a threshold. It knows nothing of the library.
struct CosinesAbove {
  double threshold = 0.2;

  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    const at::Tensor unit = rows / rows.norm(2, -1, true).clamp_min(1e-30);
    const at::Tensor cosines = unit.bmm(unit.transpose(1, 2)).triu(1);
    const at::Tensor n = usable.sum(-1);
    return (cosines - threshold).clamp_min(0).square().sum({1, 2}) / (n * (n - 1) / 2).clamp_min(1);
  }
};

TEST(UsersObjective, TenLinesPlugIn) {
  Network net;
  mma::Regularizer<CosinesAbove> regularizer(net, CosinesAbove{.threshold = 0.1}, mma::Options().coefficient(0.5));
  double expected = 0;
  for (const at::Tensor& weight : net.weights()) {
    const auto rows = reference::units(reference::rows_of(weight.flatten(1)));
    reference::Real sum = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const reference::Real above = std::max<reference::Real>(reference::dot(rows[i], rows[j]) - 0.1L, 0);
        sum += above * above / static_cast<reference::Real>(rows.size() * (rows.size() - 1) / 2);
      }
    }
    expected += 0.5 * static_cast<double>(sum);
  }
  const at::Tensor loss = regularizer.loss();
  EXPECT_NEAR(loss.item<double>(), expected, 1e-6);
  loss.backward();
  const auto by_backward = net.take_gradients();
  EXPECT_NEAR(regularizer.accumulate_gradient().item<double>(), expected, 1e-6);
  const auto accumulated = net.take_gradients();
  for (size_t k = 0; k < 4; ++k) EXPECT_LT(relative_error(accumulated[k], by_backward[k]), 1e-6);

  mma::Regularizer<mma::AnyObjective> any(net, mma::AnyObjective(CosinesAbove{}));
  mma::Regularizer<mma::Centred<CosinesAbove>> centred(net);
  any.accumulate_gradient();
  centred.accumulate_gradient();
  for (const at::Tensor& slopes : net.take_gradients()) EXPECT_TRUE(slopes.isfinite().all().item<bool>());
}

}  // namespace
