// Where a network's tensors lie in a pickle: the one dictionary at any depth, several, none, modules of LibTorch.
#include "support/files/state_dict.hpp"

#include <gtest/gtest.h>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using namespace std::string_literals;

std::string pickled_text(const std::string& value) { return "\x8c"s + static_cast<char>(value.size()) + value; }

std::string tensor(const std::string& sizes) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(NN" + sizes + sizes + "\x89}tR";
}

const std::string matrix = tensor("K\x02K\x03\x86");
const std::string bias = tensor("K\x03\x85");
const std::string one_number = tensor(")");

using Entries = std::vector<std::pair<std::string, std::string>>;

std::string dict(const Entries& entries) {
  std::string opcodes = "}";
  for (const auto& [key, value] : entries) opcodes += pickled_text(key) + value + "s";
  return opcodes;
}

std::string object(const std::string& type, const std::string& state) { return "c" + type + "\n)\x81" + state + "b"; }

const std::string network = dict({{"w", matrix}, {"b", bias}});

/// The names that are found, or the sentence of the refusal.
std::string found(const std::string& opcodes, const std::string& key = "") {
  const Pickle pickle("\x80\x02" + opcodes + ".", "f");
  std::string names;
  const std::string refusal = mma::tests::message_of<UserError>([&] {
    for (const auto& [name, tensor] : find_state_dict(pickle.root(), key, "f")) names += name + ' ';
  });
  return refusal.empty() ? names : refusal;
}

TEST(StateDict, IsTheFileItself) { EXPECT_EQ(found(network), "w b "); }

TEST(StateDict, LiesAtAnyDepthUnderAnyKey) {
  EXPECT_EQ(found(dict({{"x", dict({{"y", "]" + network + "a"}})}, {"epoch", "K\x05"}})), "w b ");
  EXPECT_EQ(found(dict({{"x", network + "K\x01\x86"}})), "w b ");
  EXPECT_EQ(found(object("argparse\nNamespace", dict({{"net", network}}))), "w b ");
  EXPECT_EQ(found(dict({{"x", "cmy\nDict\n)R" + pickled_text("w") + matrix + "s"}})), "w ");
}

TEST(StateDict, KeysAndContainersOfPython2) {
  const std::string pair = "](U\x01w"s + matrix + "e";
  EXPECT_EQ(found("ccollections\nOrderedDict\n(]" + pair + "atR"), "w ");
}

TEST(StateDict, OptimizersDoNotCount) {
  const std::string optimizer = dict({{"state", "}K\x00"s + dict({{"exp_avg", matrix}}) + "s"}, {"param_groups", "]"}});
  EXPECT_EQ(found(dict({{"optimizer", optimizer}, {"model", network}})), "w b ");
  EXPECT_EQ(found(optimizer),
            "f: holds an optimizer's state, but no network's tensors; expected torch.save(model.state_dict(), ...)");
  EXPECT_EQ(found(optimizer, "state"), "0.exp_avg ");
}

TEST(StateDict, ScalarsBesideItDoNotCount) {
  EXPECT_EQ(found(dict({{"callbacks", dict({{"best_score", one_number}, {"curve", bias}})}, {"model", network}})),
            "w b ");
  EXPECT_EQ(found(dict({{"x", dict({{"b", bias}})}})), "b ");
}

TEST(StateDict, OneOfSeveralIsChosenByItsKey) {
  const std::string two = dict({{"model", network}, {"x", dict({{"ema", dict({{"w", matrix}})}})}});
  EXPECT_EQ(found(two),
            "f: holds several dictionaries of tensors; --key chooses one of: model (2 tensors), x.ema (1 tensor)");
  EXPECT_EQ(found(two, "model"), "w b ");
  EXPECT_EQ(found(two, "x.ema"), "w ");
  EXPECT_EQ(found(two, "x"), "ema.w ");
  EXPECT_EQ(found(two, "."), "model.w model.b x.ema.w ");
  EXPECT_EQ(found(two, "y"), "f: --key y leads to no tensors; they lie under: model (2 tensors), x.ema (1 tensor)");
  EXPECT_EQ(found(dict({{"a.b", network}, {"c", network}}), "a.b"), "w b ");
  EXPECT_EQ(found(dict({{"w", matrix}, {"c", network}})),
            "f: holds several dictionaries of tensors; --key chooses one of: . (1 tensor), c (2 tensors)");
}

TEST(StateDict, OneDictionaryUnderTwoKeysIsOne) {
  EXPECT_EQ(found("}" + pickled_text("a") + network + "q\x01s" + pickled_text("b") + "h\x01s"), "w b ");
}

TEST(StateDict, ModulesOfLibTorchAndTheirModules) {
  const std::string linear = object("__torch__.torch.nn\nLinear", dict({{"weight", matrix}, {"training", "\x88"}}));
  EXPECT_EQ(
      found(object("__torch__\nModule",
                   dict({{"a", linear}, {"b", object("__torch__\nM", dict({{"c", linear}}))}, {"scale", one_number}}))),
      "a.weight b.c.weight scale ");
  EXPECT_EQ(found("ctorch.jit._pickle\nrestore_type_tag\n" + network + pickled_text("Dict[str, Tensor]") + "\x86R"),
            "w b ");
}

TEST(StateDict, TensorsWithoutNames) {
  EXPECT_EQ(found("](" + matrix + bias + "e"), "0 1 ");
  EXPECT_EQ(found(matrix), "tensor ");
}

TEST(StateDict, WholeModelsAreLeftToTheirPrograms) {
  const std::string model =
      object("my.net\nNet", dict({{"_parameters", network}, {"_modules", dict({{"a", dict({{"w", matrix}})}})}}));
  EXPECT_EQ(found(dict({{"model", model}})),
            "f: holds a whole pickled model (my.net.Net), which only its program can build; "
            "expected torch.save(model.state_dict(), ...)");
  EXPECT_EQ(found(dict({{"model", model}, {"state_dict", network}})), "w b ");
}

TEST(StateDict, TensorsOfSubclassesAndParameters) {
  const std::string plain = "ctorch._utils\n_rebuild_tensor_v2\n";
  const std::string arguments = "(NN(K\x02K\x03t(K\x03K\x01t\x89}t";
  EXPECT_EQ(
      found(dict({{"w", "ctorch._tensor\n_rebuild_from_type_v2\n(" + plain + "cmy\nTensor\n" + arguments + "NtR"}})),
      "w ");
  EXPECT_EQ(found(dict({{"w", "ctorch._utils\n_rebuild_parameter\n(" + matrix + "\x88}tR"}})), "w ");
}

TEST(StateDict, Bombs) {
  // Circles, depth without end, two in each for forty levels, and one long text as the name of every level.
  EXPECT_NE(found("}q\x01" + pickled_text("a") + "h\x01s"), "");
  std::string deep = std::string(100'000, ']') + matrix + std::string(100'000, 'a');
  EXPECT_EQ(found(deep), "f: holds no tensors by name; expected torch.save(model.state_dict(), ...)");
  std::string doubling = network + "q\x01";
  for (int i = 0; i < 40; ++i) doubling += "0}(" + pickled_text("a") + "h\x01" + pickled_text("b") + "h\x01uq\x01";
  EXPECT_EQ(found(doubling), "w b ");
  EXPECT_EQ(found(doubling, ".").substr(0, 8), "a.a.a.a.");
  const std::string long_name = "X\x40\x42\x0f\x00"s + std::string(1'000'000, 'x') + "q\x02";
  EXPECT_EQ(found("}" + long_name + "}" + pickled_text("y") + network + "ss", "."),
            "f: names a tensor with more than 1000 characters");
}

}  // namespace
}  // namespace mma::examples
