// Pickles are read as data: hand-made bytes, honest and hostile.
#include "support/files/unpickler.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;
using namespace std::string_literals;
using mma::tests::TemporaryFolder;

const std::set<std::string, std::less<>> names = {"collections.OrderedDict", "a.b"};

/// The pickle of protocol 2 with these opcodes.
Pickle pickle_of(const std::string& opcodes) { return Pickle("\x80\x02"s + opcodes + ".", names, "file"); }

std::string refusal(const std::string& bytes) {
  return mma::tests::message_of<UserError>([&] { Pickle(bytes, names, "file"); });
}

std::string refused_opcodes(const std::string& opcodes) { return refusal("\x80\x02"s + opcodes + "."); }

int64_t integer(const std::string& opcodes) {
  const Pickle pickle = pickle_of(opcodes);
  EXPECT_TRUE(pickle.root().is(Kind::Int));
  return pickle.root().integer;
}

TEST(Unpickler, Integers) {
  EXPECT_EQ(integer("K\xff"), 255);
  EXPECT_EQ(integer("M\xff\xff"), 65535);
  EXPECT_EQ(integer("J\xff\xff\xff\xff"), -1);
  EXPECT_EQ(integer("J\x00\x00\x00\x80"s), -2147483648);
  EXPECT_EQ(integer("\x8a\x00"s), 0);
  EXPECT_EQ(integer("\x8a\x01\xff"), -1);
  EXPECT_EQ(integer("\x8a\x02\xff\x00"s), 255);
  EXPECT_EQ(integer("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"), INT64_MAX);
  EXPECT_EQ(integer("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80"s), INT64_MIN);
}

TEST(Unpickler, LongIntegersAreNoNumber) {
  const Pickle pickle = pickle_of("\x8a\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09");
  EXPECT_TRUE(pickle.root().is(Kind::Float));
  EXPECT_TRUE(std::isnan(pickle.root().number));
}

TEST(Unpickler, FloatsTextsAndConstants) {
  EXPECT_EQ(pickle_of("G\x3f\xf8\x00\x00\x00\x00\x00\x00"s).root().number, 1.5);
  EXPECT_EQ(pickle_of("X\x03\x00\x00\x00"s + "abc").root().text, "abc");
  EXPECT_EQ(pickle_of("\x8c\x02"
                      "de")
                .root()
                .text,
            "de");
  EXPECT_EQ(pickle_of("C\x02\x00\xff"s).root().text, "\x00\xff"s);
  EXPECT_TRUE(pickle_of("N").root().is(Kind::None));
  EXPECT_EQ(pickle_of("\x88").root().integer, 1);
  EXPECT_TRUE(pickle_of("\x89").root().is(Kind::Bool));
}

TEST(Unpickler, Containers) {
  const Pickle list = pickle_of(
      "](K\x01K\x02"
      "eK\x03"
      "a");
  ASSERT_EQ(list.root().items.size(), 3u);
  EXPECT_EQ(list.root().items[2]->integer, 3);
  const Pickle tuple = pickle_of("K\x01K\x02\x86");
  EXPECT_TRUE(tuple.root().is(Kind::Tuple));
  EXPECT_EQ(tuple.root().items[0]->integer, 1);
  EXPECT_EQ(pickle_of("(K\x01K\x02K\x03t").root().items.size(), 3u);
  const Pickle dict = pickle_of("}K\x01K\x02s(K\x03K\x04u");
  ASSERT_EQ(dict.root().items.size(), 4u);
  EXPECT_EQ(dict.root().items[3]->integer, 4);
}

TEST(Unpickler, CallsAreWrittenDownOnly) {
  const Pickle pickle = pickle_of("ccollections\nOrderedDict\n)RK\x01K\x02s}b");
  EXPECT_TRUE(pickle.root().is(Kind::Object));
  EXPECT_EQ(pickle.root().text, "collections.OrderedDict");
  EXPECT_TRUE(pickle.root().arguments->items.empty());
  EXPECT_EQ(pickle.root().items.size(), 2u);
  EXPECT_TRUE(pickle.root().state->is(Kind::Dict));
  EXPECT_EQ(pickle_of("ca\nb\n)R").root().state, nullptr);
}

TEST(Unpickler, MemoAndFrames) {
  const Pickle pickle(
      "\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00]\x94(K\x07\x94h\x01h\x01"
      "e."s,
      names, "file");
  ASSERT_EQ(pickle.root().items.size(), 3u);
  EXPECT_EQ(pickle.root().items[0], pickle.root().items[2]);
}

TEST(Unpickler, PersistentId) {
  const Pickle pickle = pickle_of("K\x05\x85Q");
  EXPECT_TRUE(pickle.root().is(Kind::Persistent));
  EXPECT_EQ(pickle.root().arguments->items[0]->integer, 5);
}

TEST(Unpickler, ForeignNamesAreRefusedByName) {
  const std::string expected =
      "file: refers to Python's os.system, which is not plain data; "
      "expected tensors, numbers and texts alone";
  EXPECT_EQ(refused_opcodes("cos\nsystem\nX\x04\x00\x00\x00true\x85R"s), expected);
  EXPECT_EQ(refused_opcodes("\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R"), expected);
  EXPECT_NE(refused_opcodes("cposix\nsystem\n"), "");
  EXPECT_NE(refused_opcodes("cbuiltins\neval\n"), "");
  // Names that only join to a listed one, and bytes that would spoil a terminal.
  EXPECT_EQ(pickle_of("ca\nb\n").root().text, "a.b");
  EXPECT_EQ(refused_opcodes("c\x1b[2J\nx\n").find('\x1b'), std::string::npos);
  EXPECT_LT(refused_opcodes("c" + std::string(100'000, 'x') + "\ny\n").size(), 250u);
}

/// A pickle that may use any name.
Pickle open_pickle_of(const std::string& opcodes) { return Pickle("\x80\x02"s + opcodes + ".", "file"); }

TEST(Unpickler, ObjectsOfAnyClassAreCarriedAndNeverMade) {
  const TemporaryFolder folder;
  const std::string path = (folder / "executed").string();
  const std::string command = "touch " + path;
  const std::string text = "\x8c"s + static_cast<char>(command.size()) + command;
  for (const std::string& opcodes : {"cos\nsystem\n" + text + "\x85R", "(" + text + "ios\nsystem\n",
                                     "(cos\nsystem\n" + text + "o", "cos\nsystem\n" + text + "\x85}\x92"}) {
    const Pickle pickle = open_pickle_of(opcodes);
    EXPECT_TRUE(pickle.root().is(Kind::Object)) << opcodes;
    EXPECT_EQ(pickle.root().text, "os.system");
    ASSERT_EQ(pickle.root().arguments->items.size(), 1u);
    EXPECT_EQ(pickle.root().arguments->items[0]->text, command);
    EXPECT_FALSE(std::filesystem::exists(path));
  }
}

TEST(Unpickler, ObjectsMadeByObjects) {
  const Pickle pickle = open_pickle_of("cfunctools\npartial\n)R)R");
  EXPECT_TRUE(pickle.root().is(Kind::Object));
  EXPECT_EQ(pickle.root().text, "");
  EXPECT_EQ(open_pickle_of("K\x05Q)R").root().text, "");
}

TEST(Unpickler, ObjectsUsedAsLists) {
  const Pickle pickle = open_pickle_of("ccollections\ndeque\n)R(K\x01K\x02"s + "e");
  ASSERT_EQ(pickle.root().items.size(), 4u);
  EXPECT_TRUE(pickle.root().items[2]->is(Kind::None));
  EXPECT_EQ(pickle.root().items[3]->integer, 2);
}

TEST(Unpickler, NumbersAsPython2WritesThem) {
  EXPECT_EQ(integer("I140512345678901\n"), 140512345678901);
  EXPECT_EQ(integer("L-5L\n"), -5);
  EXPECT_TRUE(std::isnan(pickle_of("L99999999999999999999L\n").root().number));
  for (const char* opcodes : {"I\n", "Ix\n", "I1x\n"})
    EXPECT_EQ(refused_opcodes(opcodes), "file: its pickle is damaged");
}

TEST(Unpickler, DuplicatesAndFrozenSets) {
  EXPECT_EQ(pickle_of("K\x01"s + "2\x86").root().items.size(), 2u);
  EXPECT_EQ(pickle_of("(K\x01K\x02\x91").root().items.size(), 2u);
}

TEST(Unpickler, WhatFollowsIsLeftAlone) {
  const Pickle pickle("\x80\x02K\x05.K\x06."s, "file");
  EXPECT_EQ(pickle.size(), 5u);
  EXPECT_EQ(pickle.root().integer, 5);
}

TEST(Unpickler, UnknownOpcodesAreRefused) {
  for (const char* opcode : {"P", "\x82", "\x83", "\x84", "\x97", "\x98", "\xff", "\x01"}) {
    EXPECT_NE(refused_opcodes("K\x01K\x01" + std::string(opcode)).find("opcode"), std::string::npos) << opcode;
  }
}

TEST(Unpickler, OldProtocolsAreRefused) {
  EXPECT_NE(refusal("(dp0\n."), "");
  EXPECT_NE(refusal("\x80\x01N."), "");
  EXPECT_NE(refusal("\x80\x06N."), "");
  EXPECT_NE(refusal(""), "");
}

TEST(Unpickler, StackErrors) {
  for (const std::string& opcodes : {""s,
                                     "("s,
                                     "0"s,
                                     "K\x01(."s,
                                     "R"s,
                                     "e"s,
                                     "]e"s,
                                     "t"s,
                                     "\x85"s,
                                     "(\x85"s,
                                     "N\x86"s,
                                     "Q"s,
                                     "h\x05"s,
                                     "j\x05\x00\x00\x00"s,
                                     "q\x01"s,
                                     "N)R"s,
                                     "ca\nb\nNR"s,
                                     "NNa"s,
                                     "]}(NNe"s.substr(0, 2) + "Na"s,
                                     "}(Nu"s,
                                     "NNNs"s,
                                     "]Nb"s,
                                     "NNb"s,
                                     "NN\x93"s,
                                     "(o"s,
                                     "(No"s,
                                     "N)R"s,
                                     "ia\nb\n"s,
                                     "ca\nb\n)\x92"s,
                                     "2"s,
                                     "b"s,
                                     "1"s,
                                     "\x8f(N"
                                     "e"s}) {
    EXPECT_NE(refused_opcodes(opcodes), "") << ::testing::PrintToString(opcodes);
  }
}

TEST(Unpickler, EveryTruncationIsRefused) {
  const std::string whole =
      "\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00}\x94(X\x01\x00\x00\x00"
      "aK\x01\x8c\x01"
      "bJ\x01\x02\x03\x04G\x3f\xf8\x00\x00\x00\x00\x00\x00"
      "M\x01\x02\x8a\x02\x01\x02\x8b\x01\x00\x00\x00\x01"
      "C\x01xca\nb\n)R\x8d\x01\x00\x00\x00\x00\x00\x00\x00zNuK\x05\x85Q0."s;
  EXPECT_EQ(refusal(whole), "");
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
}

TEST(Unpickler, LengthsBeyondTheEnd) {
  for (const std::string& opcodes :
       {"X\xff\xff\xff\xff"s, "B\xff\xff\xff\x7f"s, "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"s,
        "\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"s, "\x8b\xff\xff\xff\xff"s, "\x8a\xff"s, "ca"s, "c"s}) {
    EXPECT_EQ(refused_opcodes(opcodes), "file: its pickle is truncated");
  }
}

TEST(Unpickler, Bombs) {
  // A list in a list, two million deep; each list twice in the next, forty times; a circle.
  const std::string deep = std::string(2'000'000, ']') + std::string(1'999'999, 'a');
  EXPECT_EQ(refused_opcodes(deep), "");
  std::string doubling = "]q\x01";
  for (int i = 0; i < 40; ++i)
    doubling +=
        "](h\x01h\x01"
        "eq\x01";
  EXPECT_EQ(refused_opcodes(doubling), "");
  EXPECT_EQ(refused_opcodes("]q\x01h\x01"
                            "a"),
            "");
  // Too many values, a memo that grows with every byte, a memo's key near the largest number.
  EXPECT_NE(refused_opcodes(std::string(5'000'000, 'N')), "");
  EXPECT_NE(refused_opcodes("N" + std::string(5'000'000, '\x94')), "");
  EXPECT_EQ(refused_opcodes("Nr\xff\xff\xff\xff"), "");
}

}  // namespace
}  // namespace mma::examples
