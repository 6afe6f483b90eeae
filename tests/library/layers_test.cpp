// What a Regularizer knows of its layers: a user's own module types, layers that come and go, matrices that no rule
// takes, and the words for settings that would silently do nothing.
#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <mma/mma.hpp>

#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "error_message.hpp"
#include "reference.hpp"

namespace {

namespace nn = torch::nn;
using measured::message_of;
using mma::Options;
using mma::Regularizer;
using Names = std::vector<std::string>;

double formula(const at::Tensor& weight) { return reference::minimal_angle_loss(weight.flatten(1)); }

template <class Objective>
Names names_of(const Regularizer<Objective>& regularizer) {
  Names names;
  for (const auto& layer : regularizer.layers()) names.push_back(layer.name);
  return names;
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// LibTorch's warnings while it lives.
class Warnings : public c10::WarningHandler {
 public:
  Warnings() : before_(c10::WarningUtils::get_warning_handler()) { c10::WarningUtils::set_warning_handler(this); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  ~Warnings() override { c10::WarningUtils::set_warning_handler(before_); }

  void process(const c10::Warning& warning) override { texts.push_back(warning.msg()); }

  std::vector<std::string> texts;

 private:
  c10::WarningHandler* before_;
};

struct Network : nn::Module {
  Network() {
    body->push_back("conv", nn::Conv2d(nn::Conv2dOptions(3, 6, 3)));
    register_module("body", body);
    a = register_module("a", nn::Linear(8, 9));
    b = register_module("b", nn::Linear(9, 4));
  }
  at::Tensor& conv_weight() { return body[0]->as<nn::Conv2dImpl>()->weight; }

  nn::Sequential body;
  nn::Linear a{nullptr}, b{nullptr};
};

struct Recurrent : nn::Module {
  Recurrent() { lstm = register_module("lstm", nn::LSTM(4, 5)); }
  nn::LSTM lstm{nullptr};
};

// ---- a user's own module types

/// A container asks for a forward().
struct Passing : nn::Module {
  at::Tensor forward(const at::Tensor& x) { return x; }
};

/// A dense layer with its rows in columns.
struct DenseImpl : Passing {
  DenseImpl(int64_t inputs, int64_t outputs) {
    kernel = register_parameter("kernel", at::randn({inputs, outputs}));
    scales = register_parameter("scales", at::randn({2, outputs}));
  }
  at::Tensor kernel, scales;
};
struct DeeperImpl : DenseImpl {
  using DenseImpl::DenseImpl;
};

TEST(RegisterLayer, OneLineTeachesTheWalkAType) {
  mma::register_layer<DenseImpl>([](const DenseImpl& layer) { return layer.kernel; }, {.transposed = true});
  auto net = std::make_shared<nn::SequentialImpl>();
  net->push_back("dense", DenseImpl(5, 7));
  net->push_back("deeper", DeeperImpl(4, 6));
  net->push_back("linear", nn::Linear(6, 3));
  Regularizer<> regularizer(*net, Options().coefficient(1));
  EXPECT_EQ(names_of(regularizer), (Names{"dense", "deeper", "linear"}));
  auto* dense = net->ptr(0)->as<DenseImpl>();
  const auto expected = [&] {
    return formula(dense->kernel.t()) + formula(net->ptr(1)->as<DeeperImpl>()->kernel.t()) +
           formula(net->ptr(2)->as<nn::LinearImpl>()->weight);
  };
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(), 1e-5);
  dense->kernel = at::randn({5, 7}).requires_grad_();  // the member is read at each call
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(), 1e-5);
  EXPECT_EQ(names_of(Regularizer<>(*net, Options().scope(mma::Scope::Output))), Names{"linear"});
}

TEST(RegisterLayer, OnTheStackTheTensorIsKept) {
  mma::register_layer<DenseImpl>([](const DenseImpl& layer) { return layer.kernel; }, {.transposed = true});
  auto dense = std::make_unique<DenseImpl>(5, 7);
  Regularizer<> regularizer(*dense, Options().coefficient(1));
  const double expected = formula(dense->kernel.t());
  EXPECT_EQ(names_of(regularizer), Names{"(module)"});
  dense.reset();
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-6);
}

struct GroupedImpl : Passing {
  explicit GroupedImpl(int64_t count) : groups(count) { filters = register_parameter("filters", at::randn({12, 5})); }
  int64_t groups;
  at::Tensor filters;
};

TEST(RegisterLayer, TheModuleMayDecideTheLayout) {
  mma::register_layer<GroupedImpl>([](const GroupedImpl& layer) { return layer.filters; },
                                   [](const GroupedImpl& layer) { return mma::WeightLayout{.groups = layer.groups}; });
  nn::Sequential net(GroupedImpl(3), GroupedImpl(1));
  const Regularizer<> regularizer(*net);
  ASSERT_EQ(regularizer.layers().size(), 2U);
  EXPECT_EQ(regularizer.layers()[0].rows().sizes(), (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(regularizer.layers()[1].rows().sizes(), (std::vector<int64_t>{1, 12, 5}));
}

/// A Linear whose rows to be kept apart are not those of its weight.
struct MaskedImpl : nn::LinearImpl {
  using LinearImpl::LinearImpl;
  at::Tensor mask = at::randn({6, 5});
};

TEST(RegisterLayer, GoesBeforeTheBuiltInRuleAndTheLastOneCounts) {
  nn::Sequential net(MaskedImpl(5, 6), nn::Linear(5, 6));
  auto* masked = net[0]->as<MaskedImpl>();
  const auto weight = [&](size_t k) { return Regularizer<>(*net).layers().at(k).weight(); };
  EXPECT_TRUE(weight(0).is_same(masked->weight));
  mma::register_layer<MaskedImpl>([](const MaskedImpl& layer) { return layer.mask; });
  EXPECT_TRUE(weight(0).is_same(masked->mask));
  EXPECT_TRUE(weight(1).is_same(net[1]->as<nn::LinearImpl>()->weight));
  mma::register_layer<MaskedImpl>([](const MaskedImpl& layer) { return layer.weight * layer.mask; });
  EXPECT_TRUE(weight(0).equal(masked->weight * masked->mask));
  EXPECT_EQ(names_of(Regularizer<>(*net, Options().scope(mma::Scope::Output))), Names{"1"});
}

struct BaseImpl : Passing {
  at::Tensor first = at::randn({6, 5}), second = at::randn({6, 5});
};
struct DerivedImpl : BaseImpl {};

TEST(RegisterLayer, OfTwoThatFitTheLastOneCounts) {
  nn::Sequential net(DerivedImpl{}, BaseImpl{});
  const auto weight = [&](size_t k) { return Regularizer<>(*net).layers().at(k).weight(); };
  mma::register_layer<BaseImpl>([](const BaseImpl& layer) { return layer.first; });
  mma::register_layer<DerivedImpl>([](const DerivedImpl& layer) { return layer.second; });
  EXPECT_TRUE(weight(0).is_same(net[0]->as<DerivedImpl>()->second));
  EXPECT_TRUE(weight(1).is_same(net[1]->as<BaseImpl>()->first));
}

template <int number>
struct NumberedImpl : nn::Module {
  at::Tensor weight = at::randn({3, 2});
};

template <int number>
void register_numbered() {
  mma::register_layer<NumberedImpl<number>>([](const NumberedImpl<number>& layer) { return layer.weight; });
}

TEST(RegisterLayer, FromSeveralThreadsWhileOthersWalk) {
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; ++k) {
    threads.emplace_back([] {
      for (int again = 0; again < 50; ++again) {
        register_numbered<0>();
        register_numbered<1>();
        NumberedImpl<0> module;
        EXPECT_EQ(Regularizer<>(module).layers().size(), 1U);
        register_numbered<2>();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(RegisterLayer, ATensorWithoutRowsIsNamed) {
  struct BiasOnlyImpl : Passing {
    at::Tensor bias = at::randn({3});
  };
  mma::register_layer<BiasOnlyImpl>([](const BiasOnlyImpl& layer) { return layer.bias; });
  nn::Sequential net;
  net->push_back("bias_only", BiasOnlyImpl());
  const std::string text = message_of([&] { Regularizer<> regularizer(*net); });
  EXPECT_TRUE(says(text, "'bias_only'") && says(text, "expected at least two dimensions")) << text;
}

// ---- layers that come and go

TEST(ReplacedLayers, TheNewOneIsRegularizedAndTheOldOneIsNot) {
  auto net = std::make_shared<Network>();
  Regularizer<> regularizer(*net, Options().coefficient(1));
  regularizer.loss();
  const nn::Linear old = net->b;
  net->b = net->replace_module("b", nn::Linear(9, 7));  // fine-tuning: a new output layer
  const double expected = formula(net->conv_weight()) + formula(net->a->weight) + formula(net->b->weight);
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-5);
  regularizer.loss().backward();
  EXPECT_TRUE(net->b->weight.grad().defined());
  EXPECT_FALSE(old->weight.grad().defined());
  net->b->weight.mutable_grad() = at::Tensor();
  net->b = net->replace_module("b", nn::Linear(9, 7));  // of the same shape
  regularizer.accumulate_gradient();
  EXPECT_TRUE(net->b->weight.grad().defined());
  EXPECT_EQ(regularizer.report().layers.back().rows, 7);
  EXPECT_EQ(regularizer.layer_losses().back().first, "b");
}

TEST(ReplacedLayers, NeighboursOfTheOldOneAreNotKept) {
  auto net = std::make_shared<Network>();
  Regularizer<> regularizer(*net, Options().coefficient(1).refresh_every(100));
  regularizer.loss();
  net->a = net->replace_module("a", nn::Linear(8, 9));
  net->b = net->replace_module("b", nn::Linear(9, 4));
  const double expected = formula(net->conv_weight()) + formula(net->a->weight) + formula(net->b->weight);
  EXPECT_NEAR(regularizer.loss().item<double>(), expected, 1e-5);
}

TEST(ReplacedLayers, LaterOnesAreSeenAndThoseAddedByHandStayAtTheEnd) {
  auto net = std::make_shared<Network>();
  Regularizer<> regularizer(*net, Options().coefficient(1).coefficient("b", 3));
  regularizer.add("prototypes", at::randn({4, 3}).requires_grad_(), {}, 0.5);
  net->body->push_back("late", nn::Conv2d(nn::Conv2dOptions(6, 5, 1)));
  EXPECT_EQ(names_of(regularizer), (Names{"body.conv", "body.late", "a", "b", "prototypes"}));
  EXPECT_EQ(regularizer.layers()[3].coefficient, 3);
  EXPECT_EQ(regularizer.layers().back().coefficient, 0.5);
  net->unregister_module("a");
  EXPECT_EQ(names_of(regularizer), (Names{"body.conv", "body.late", "b", "prototypes"}));
}

TEST(ReplacedLayers, AnotherNameIsAChangeToo) {
  auto net = std::make_shared<Network>();
  const Regularizer<> regularizer(*net, Options().coefficient("b", 3));
  net->unregister_module("b");
  net->register_module("c", net->b);
  EXPECT_EQ(names_of(regularizer), (Names{"body.conv", "a", "c"}));
  EXPECT_EQ(regularizer.layers().back().coefficient, 0.07);
}

TEST(ReplacedLayers, TheOutputLayerIsTheNewOne) {
  auto net = std::make_shared<Network>();
  Regularizer<> hidden(*net, Options().scope(mma::Scope::Hidden));
  Regularizer<> named(*net, Options().scope(mma::Scope::Hidden).output_layer("b"));
  net->register_module("head", nn::Linear(4, 2));
  EXPECT_EQ(names_of(hidden), (Names{"body.conv", "a", "b"}));
  net->unregister_module("b");
  EXPECT_EQ(names_of(hidden), (Names{"body.conv", "a"}));
  EXPECT_TRUE(says(message_of([&] { named.loss(); }), "the output layer 'b'"));
}

TEST(ReplacedLayers, OneAtTheAddressOfOneThatIsGone) {
  register_numbered<0>();
  auto net = std::make_shared<Network>();
  net->register_module("x", std::shared_ptr<NumberedImpl<7>>(new NumberedImpl<7>));  // of no known type
  const Regularizer<> regularizer(*net);
  const void* const address = net->named_children()["x"].get();
  net->unregister_module("x");
  // Of the same size: the allocator gives it the memory that has just become free.
  const std::shared_ptr<NumberedImpl<0>> next(new NumberedImpl<0>);
  net->register_module("x", next);
  if (static_cast<nn::Module*>(next.get()) != address) {
    GTEST_SKIP() << "the allocator gave other memory";
  }
  EXPECT_EQ(names_of(regularizer), (Names{"body.conv", "a", "b", "x"}));
}

TEST(ReplacedLayers, AModuleThatIsGoneLeavesItsLayers) {
  auto net = std::make_shared<Network>();
  Regularizer<> regularizer(*net, Options().coefficient(1));
  const double value = regularizer.loss().item<double>();
  net.reset();
  EXPECT_EQ(regularizer.loss().item<double>(), value);
  EXPECT_TRUE(regularizer.report().left_out.empty());
}

TEST(ReplacedLayers, OnTheStackChangesBelowTheChildrenAreSeen) {
  auto net = std::make_unique<Network>();
  Regularizer<> regularizer(*net, Options().coefficient(1));
  net->body->push_back("late", nn::Conv2d(nn::Conv2dOptions(6, 5, 1)));
  const Names expected{"body.conv", "body.late", "a", "b"};
  EXPECT_EQ(names_of(regularizer), expected);
  net.reset();
  EXPECT_EQ(names_of(regularizer), expected);
  regularizer.loss().backward();
}

TEST(ReplacedLayers, TheListIsMadeAnewOnlyWhenItChanged) {
  auto net = std::make_shared<Network>();
  mma::detail::layers::ModuleLayers layers(*net, Options());
  const int64_t first = layers.generation();
  net->a->weight = at::randn({9, 8}).requires_grad_();
  net->to(at::kDouble);
  layers.current();
  EXPECT_EQ(layers.generation(), first);
  net->register_module("head", nn::Linear(4, 2));
  EXPECT_EQ(layers.known().size(), 3U);
  EXPECT_EQ(layers.current().size(), 4U);
  EXPECT_NE(layers.generation(), first);
  const int64_t second = layers.generation();
  layers.add("prototypes", [] { return at::ones({3, 2}); }, {});
  EXPECT_NE(layers.generation(), second);
}

// ---- what no rule takes

TEST(LeftOut, MatricesThatNoRuleTakesAreListed) {
  struct Mixed : nn::Module {
    Mixed() {
      register_module("linear", nn::Linear(4, 3));
      register_module("lstm", nn::LSTM(nn::LSTMOptions(4, 5)));
      register_module("attention", nn::MultiheadAttention(8, 2));
      register_module("words", nn::Embedding(7, 4));
      register_module("pair", nn::Bilinear(3, 4, 5));
      register_parameter("own", at::randn({6, 5}));
      register_parameter("bias", at::randn({6}));
    }
  };
  auto net = std::make_shared<Mixed>();
  const mma::Report report = Regularizer<>(*net).report();
  std::vector<std::string> lines;
  for (const mma::LeftOut& matrix : report.left_out) {
    lines.push_back(matrix.name + ' ' + c10::str(at::IntArrayRef(matrix.sizes)) + ' ' + matrix.module);
  }
  ASSERT_EQ(lines.size(), 6U);
  EXPECT_TRUE(says(lines[0], "own [6, 5] ") && says(lines[0], "Mixed")) << lines[0];
  EXPECT_EQ((Names{lines.begin() + 1, lines.end()}),
            (Names{"lstm.weight_ih_l0 [20, 4] LSTM", "lstm.weight_hh_l0 [20, 5] LSTM",
                   "attention.in_proj_weight [24, 8] MultiheadAttention", "words.weight [7, 4] Embedding",
                   "pair.weight [5, 3, 4] Bilinear"}));
  EXPECT_EQ(report.layers.size(), 2U);  // linear and the attention's out_proj
}

TEST(LeftOut, NotWhatWasAddedOrExcludedOrSharesMemory) {
  auto net = std::make_shared<Recurrent>();
  nn::Linear decoder(5, 7);
  net->register_module("decoder", decoder);
  nn::Embedding words(7, 5), tied(nn::EmbeddingOptions(7, 5)._weight(decoder->weight));
  net->register_module("words", words);
  net->register_module("tied", tied);  // to the decoder, which is a layer of a known type
  Regularizer<> regularizer(*net, Options().exclude("decoder"));
  EXPECT_EQ(regularizer.report().left_out.size(), 3U);
  regularizer.add("input", [net] { return net->lstm->named_parameters()["weight_ih_l0"]; });
  regularizer.add("words", words->weight);
  ASSERT_EQ(regularizer.report().left_out.size(), 1U);
  EXPECT_EQ(regularizer.report().left_out.front().name, "lstm.weight_hh_l0");
}

TEST(LeftOut, OnTheStackToo) {
  Recurrent net;
  net.register_parameter("own", at::randn({6, 5}));
  const Regularizer<> regularizer(net);
  const auto left_out = regularizer.report().left_out;
  ASSERT_EQ(left_out.size(), 3U);
  EXPECT_EQ(left_out[0].name, "own");
  EXPECT_EQ(left_out[1].name, "lstm.weight_ih_l0");
}

// ---- words

TEST(Words, AModuleWithoutLayersIsSaidOnceAtFirstUse) {
  Recurrent net;
  Warnings warnings;
  Regularizer<> regularizer(net);
  EXPECT_TRUE(regularizer.report().layers.empty());
  EXPECT_TRUE(warnings.texts.empty());
  EXPECT_EQ(regularizer.loss().item<double>(), 0);
  regularizer.accumulate_gradient();
  ASSERT_EQ(warnings.texts.size(), 1U);
  EXPECT_TRUE(says(warnings.texts[0], "add()")) << warnings.texts[0];

  Regularizer<> with_one(net);
  with_one.add("lstm", net.lstm->named_parameters()["weight_ih_l0"]);
  with_one.loss();
  Regularizer<>(Options()).loss();  // without a module nothing was looked for
  EXPECT_EQ(warnings.texts.size(), 1U);
}

TEST(Words, OptionsThatChooseNothingAreSaid) {
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(3, 6, 3)));
  Warnings warnings;
  Regularizer<> regularizer(*net, Options().scope(mma::Scope::Output));
  regularizer.loss();
  ASSERT_EQ(warnings.texts.size(), 1U);
  EXPECT_TRUE(says(warnings.texts[0], "none of the module's 1 layers")) << warnings.texts[0];
}

TEST(Words, ACoefficientForNoLayerThrows) {
  Network net;
  const std::string text = message_of([&] { Regularizer<> regularizer(net, Options().coefficient("layer9.*", 0.1)); });
  EXPECT_TRUE(says(text, "'layer9.*' of coefficient") && says(text, "expected") && says(text, "add()")) << text;
  Recurrent none;
  const std::string other = message_of([&] { Regularizer<> regularizer(none, Options().coefficient("lstm*", 0.1)); });
  EXPECT_TRUE(says(other, "'lstm*' of coefficient") && says(other, "no layer of a known type")) << other;
}

TEST(Words, WithoutAModuleACoefficientHasUntilTheFirstUse) {
  Regularizer<> regularizer(Options().coefficient("prototypes", 0.25).coefficient("protoypes", 0.5));
  const at::Tensor prototypes = at::randn({5, 3}).requires_grad_();
  regularizer.add("prototypes", prototypes);
  for (int again = 0; again < 2; ++again) {
    const std::string text = message_of([&] { regularizer.loss(); });
    EXPECT_TRUE(says(text, "'protoypes' of coefficient") && says(text, "expected")) << text;
  }
  regularizer.add("protoypes", at::randn({4, 3}).requires_grad_());
  EXPECT_NE(regularizer.loss().item<double>(), 0);
}

TEST(Words, ATensorAddedTakesItsOwnCoefficient) {
  Network net;
  const at::Tensor prototypes = at::randn({5, 3}).requires_grad_();
  Regularizer<> regularizer(net, Options().coefficient(0));
  regularizer.add("prototypes", prototypes, {}, 0.25);
  regularizer.add(
      "looked up", [&] { return prototypes * 2; }, {}, 0.5);
  EXPECT_NEAR(regularizer.loss().item<double>(), 0.75 * formula(prototypes), 1e-6);
}

TEST(Words, CoefficientsThatAreNotFiniteThrow) {
  Network net;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const double value : {nan, -nan, infinity, -infinity}) {
    for (const std::string& text :
         {message_of([&] { Regularizer<> regularizer(net, Options().coefficient(value)); }),
          message_of([&] { Regularizer<> regularizer(net, Options().coefficient("a", value)); }),
          message_of([&] { Regularizer<> regularizer(Options().coefficient(value)); }), message_of([&] {
            Regularizer<>(net).add("prototypes", at::ones({3, 2}), {}, value);
          })}) {
      EXPECT_TRUE(says(text, "coefficient") && says(text, "expected a finite number")) << text;
    }
  }
}

TEST(Words, OptionsAreMatchedAsNamesNotPrefixes) {
  Network net;
  EXPECT_EQ(names_of(Regularizer<>(net, Options().include("?"))), (Names{"a", "b"}));
  EXPECT_EQ(names_of(Regularizer<>(net, Options().include("[!b]"))), Names{"a"});
  EXPECT_EQ(names_of(Regularizer<>(net, Options().include("body.*"))), Names{"body.conv"});
  EXPECT_TRUE(says(message_of([&] { Regularizer<> regularizer(net, Options().include("bod")); }), "'bod' of include"));
}

}  // namespace
