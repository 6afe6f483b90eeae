// Files of Python's torch.save: what the real PyTorch wrote (data/), and hostile ones made by hand.
#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>

#include "fixture_values.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;
using namespace std::string_literals;

/// The tensors of make_fixtures.py's Net, whose salts count them.
void expect_net(const TensorFile& file, at::ScalarType type) {
  EXPECT_EQ(file.tensors.size(), 8u);
  expect_tensor(file, "conv.weight", type, fill({4, 2, 3, 3}, 0));
  expect_tensor(file, "bn.weight", type, fill({4}, 1));
  expect_tensor(file, "bn.bias", type, fill({4}, 2));
  expect_tensor(file, "bn.running_mean", type, fill({4}, 3));
  expect_tensor(file, "bn.running_var", type, fill({4}, 4));
  expect_tensor(file, "bn.num_batches_tracked", at::kLong, at::empty({}, at::kDouble).fill_(5));
  expect_tensor(file, "fc.weight", type, fill({3, 4}, 6));
  expect_tensor(file, "fc.bias", type, fill({3}, 7));
}

TEST(TorchSaveFile, StateDict) {
  const TensorFile file = read_tensor_file(fixture("state_dict.pt"));
  expect_net(file, at::kFloat);
  EXPECT_EQ(file.tensors.front().first, "conv.weight");
  EXPECT_EQ(file.tensors.back().first, "fc.bias");
  EXPECT_TRUE(file.metadata.empty());
}

TEST(TorchSaveFile, NewestPickleProtocol) { expect_net(read_tensor_file(fixture("protocol5.pt")), at::kFloat); }
TEST(TorchSaveFile, DataParallelPrefixIsDropped) {
  expect_net(read_tensor_file(fixture("data_parallel.pt")), at::kFloat);
}
TEST(TorchSaveFile, HalfPrecision) { expect_net(read_tensor_file(fixture("half.pt")), at::kHalf); }

TEST(TorchSaveFile, NestedCheckpointWithOptimizerAndOtherEntries) {
  expect_net(read_tensor_file(fixture("nested.pt")), at::kFloat);
}

TEST(TorchSaveFile, EveryType) { expect_every_type(read_tensor_file(fixture("every_type.pt"))); }
TEST(TorchSaveFile, BigEndian) { expect_every_type(read_tensor_file(fixture("big_endian.pt"))); }

TEST(TorchSaveFile, ViewsAndSharedStorage) {
  const TensorFile file = read_tensor_file(fixture("views.pt"));
  const at::Tensor base = fill({6, 4}, 3);
  expect_tensor(file, "transposed", at::kFloat, base.t());
  expect_tensor(file, "rows", at::kFloat, base.slice(0, 2, 4));
  expect_tensor(file, "columns", at::kFloat, base.slice(1, 1, 3));
  expect_tensor(file, "every_other", at::kFloat, base.slice(0, 0, 6, 2));
  expect_tensor(file, "scalar", at::kFloat, base[5][3]);
  expect_tensor(file, "expanded", at::kFloat, fill({1, 3}, 9).expand({4, 3}));
  expect_tensor(file, "channels_last", at::kFloat, fill({2, 3, 2, 2}, 5));
  expect_tensor(file, "parameter", at::kFloat, fill({2, 2}, 6));
  expect_tensor(file, "empty", at::kFloat, at::empty({0, 5}, at::kDouble));
  EXPECT_EQ(file.find("transposed")->storage().data(), file.find("columns")->storage().data());
}

std::string refused_fixture(const std::string& name) { return refusal(read_bytes(fixture(name))); }

TEST(TorchSaveFile, BeforePyTorch16) {
  expect_net(read_tensor_file(fixture("legacy.pt")), at::kFloat);
  const std::string bytes = read_bytes(fixture("legacy.pt"));
  expect_truncations_refused(bytes, 7);
  EXPECT_EQ(refusal(bytes.substr(0, bytes.size() - 1)), "is truncated or damaged: a storage reaches beyond its end");
  for (size_t i = 0; i < bytes.size(); i += 3) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    EXPECT_EQ(refusal(damaged).find('\n'), std::string::npos) << i;
  }
}

TEST(TorchSaveFile, WhatIsNoTensorDoesNotMatter) {
  expect_net(read_tensor_file(fixture("everything_beside.pt")), at::kFloat);
  expect_net(read_tensor_file(fixture("legacy_everything_beside.pt")), at::kFloat);
}

TEST(TorchSaveFile, RareTensors) {
  for (const char* name : {"rare_tensors.pt", "legacy_rare_tensors.pt"}) {
    const TensorFile file = read_tensor_file(fixture(name));
    expect_tensor(file, "plain", at::kFloat, fill({2, 3}, 0));
    expect_tensor(file, "attributed", at::kFloat, fill({2, 3}, 1));
    expect_tensor(file, "parameter", at::kFloat, fill({2, 3}, 1));
    expect_tensor(file, "e4m3", at::kFloat8_e4m3fn, fill({2, 3}, 2).to(at::kFloat8_e4m3fn).to(at::kDouble));
    EXPECT_EQ(file.find("e5m2")->scalar_type(), at::kFloat8_e5m2);
    expect_tensor(file, "u16", at::kUInt16, whole_numbers({2, 3}, 4));
    expect_tensor(file, "u32", at::kUInt32, whole_numbers({2, 3}, 5));
    expect_tensor(file, "u64", at::kUInt64, whole_numbers({2, 3}, 6));
    EXPECT_EQ(file.find("c64")->scalar_type(), at::kComplexFloat);
    const std::vector<std::pair<std::string, std::string>> skipped = {
        {"conjugated", "a tensor that is stored conjugated or negated"},
        {"quantized", "a quantized tensor"},
        {"sparse", "a sparse tensor"},
        {"csr", "a sparse tensor"},
        {"meta", "a tensor without values"}};
    EXPECT_EQ(file.skipped, skipped) << name;
  }
}

TEST(TorchSaveFile, TorchScript) { expect_net(read_tensor_file(fixture("torchscript.pt")), at::kFloat); }

TEST(TorchSaveFile, OtherFilesOfPyTorch) {
  EXPECT_EQ(refused_fixture("refused_module.pt"),
            "holds a whole pickled model (torch.nn.modules.linear.Linear), which only its program can build; "
            "expected torch.save(model.state_dict(), ...)");
  EXPECT_EQ(refused_fixture("refused_no_tensors.pt"),
            "holds no tensors by name; expected torch.save(model.state_dict(), ...)");
  EXPECT_EQ(refused_fixture("torchscript_without_tensors.pt"),
            "holds no tensors by name; expected torch.save(model.state_dict(), ...)");
  const TensorFile file = read_tensor_file(fixture("complex.pt"));
  EXPECT_EQ(file.find("a")->scalar_type(), at::kComplexFloat);
}

TEST(TorchSaveFile, Truncated) {
  for (const char* name : {"state_dict.pt", "nested.pt", "views.pt"}) {
    expect_truncations_refused(read_bytes(fixture(name)), 37);
  }
  const std::string bytes = read_bytes(fixture("state_dict.pt"));
  EXPECT_EQ(refusal(bytes.substr(0, bytes.size() - 1)),
            "is truncated or damaged; expected a whole zip file of torch.save");
}

TEST(TorchSaveFile, EveryDamagedByteIsRefusedOrHarmless) {
  const std::string whole = read_bytes(fixture("views.pt"));
  for (size_t i = 0; i < whole.size(); i += 3) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    EXPECT_EQ(refusal(damaged).find('\n'), std::string::npos)
        << i;  // no crash, no other exception: one sentence or none
  }
}

/// A zip as torch.save writes it, with a pickle and storages of our own.
std::string archive(const std::string& pickle, const std::map<std::string, std::string>& records = {}) {
  std::string bytes;
  const auto append = [&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  };
  caffe2::serialize::PyTorchStreamWriter writer(append);
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  for (const auto& [name, data] : records) writer.writeRecord(name, data.data(), data.size());
  writer.writeEndOfFile();
  return bytes;
}

std::string text(const std::string& value) { return "\x8c"s + static_cast<char>(value.size()) + value; }

std::string number(int64_t value) {
  std::string bytes = "\x8a\x08";
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
  return bytes;
}

std::string tuple(const std::vector<int64_t>& values) {
  std::string opcodes = "(";
  for (const int64_t value : values) opcodes += number(value);
  return opcodes + "t";
}

std::string storage(int64_t elements, const std::string& key = "0", const std::string& type = "FloatStorage") {
  return "(" + text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") + number(elements) + "tQ";
}

std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& sizes,
                   const std::vector<int64_t>& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + tuple(sizes) + tuple(strides) + "\x89}tR";
}

/// A file whose pickle is {"w": value}.
std::string file_of(const std::string& value, const std::map<std::string, std::string>& records) {
  return archive("\x80\x02}" + text("w") + value + "s.", records);
}

const std::map<std::string, std::string> six_floats = {{"data/0", std::string(24, '\0')}};

std::string refused_tensor(const std::string& value) { return refusal(file_of(value, six_floats)); }

TEST(TorchSaveFile, HandMadeFileIsRead) {
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {2, 3}, {3, 1})), "");
  EXPECT_EQ(refused_tensor(tensor(storage(6), 6, {0}, {1})), "");
  EXPECT_EQ(refused_tensor(tensor(storage(6), 5, {1000, 1000}, {0, 0})), "");
}

TEST(TorchSaveFile, TensorsBeyondTheirStorage) {
  const std::string beyond = "is damaged: its tensor 'w' reaches beyond its data";
  constexpr int64_t huge = INT64_MAX;
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {7}, {1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 1, {2, 3}, {3, 1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {2, 3}, {4, 1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), -1, {2}, {1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 7, {0}, {1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), huge, {2}, {1})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {2}, {huge})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {huge, huge}, {huge, huge})), beyond);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, {huge, huge, 0}, {0, 0, 0})), beyond);
  EXPECT_NE(refused_tensor(tensor(storage(6), 0, {-1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(6), 0, {2}, {-1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(6), 0, {2, 3}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(6), 0, {1 << 30, 1 << 20}, {0, 0})).find("repeats"), std::string::npos);
}

TEST(TorchSaveFile, StoragesThatDoNotFit) {
  EXPECT_EQ(refused_tensor(tensor(storage(5), 0, {5}, {1})), "is damaged: its record data/0 has the wrong length");
  EXPECT_NE(refused_tensor(tensor(storage(-1), 0, {0}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(INT64_MAX), 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(INT64_MAX / 4 + 7), 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(6, "absent"), 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor(storage(6, "../data.pkl"), 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor("N", 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor("NQ", 0, {1}, {1})), "");
  EXPECT_NE(refused_tensor(tensor("(NNNNNtQ", 0, {1}, {1})), "");
}

TEST(TorchSaveFile, OneStorageTwoTypes) {
  const std::string both =
      tensor(storage(6), 0, {1}, {1}) + "s" + text("v") + tensor(storage(3, "0", "DoubleStorage"), 0, {1}, {1});
  EXPECT_EQ(refused_tensor(both), "is damaged: its tensor 'v' shares its data with one of another type");
}

TEST(TorchSaveFile, NameGivenTwice) {
  const std::string one = tensor(storage(6), 0, {1}, {1});
  EXPECT_EQ(refused_tensor(one + "s" + text("w") + one), "holds the tensor 'w' twice");
}

TEST(TorchSaveFile, PrefixesOfWrappersAreDroppedWhenAllHaveThem) {
  const auto names_in = [](const std::string& first, const std::string& second) {
    const TemporaryFolder folder;
    const std::string one = tensor(storage(6), 0, {1}, {1});
    write_bytes(folder / "f", archive("\x80\x02}" + text(first) + one + "s" + text(second) + one + "s.", six_floats));
    const TensorFile file = read_tensor_file(folder / "f");
    return file.tensors[0].first + ' ' + file.tensors[1].first;
  };
  EXPECT_EQ(names_in("module._orig_mod.module.a", "module._orig_mod.module.b"), "a b");
  EXPECT_EQ(names_in("_orig_mod.a", "_orig_mod.b"), "a b");
  EXPECT_EQ(names_in("module.a", "b"), "module.a b");
  EXPECT_EQ(names_in("model.a", "model.b"), "model.a model.b");
}

TEST(TorchSaveFile, OneUnusualTensorDoesNotCostTheOthers) {
  const std::string sparse = "ctorch._utils\n_rebuild_sparse_tensor\n(NNtR";
  const std::string bits = tensor(storage(6, "0", "BitsStorage"), 0, {1}, {1});
  const TemporaryFolder folder;
  write_bytes(
      folder / "f",
      file_of(tensor(storage(6), 0, {2, 3}, {3, 1}) + "s" + text("s") + sparse + "s" + text("b") + bits, six_floats));
  const TensorFile file = read_tensor_file(folder / "f");
  ASSERT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.tensors[0].first, "w");
  const std::vector<std::pair<std::string, std::string>> skipped = {{"s", "a sparse tensor"},
                                                                    {"b", "elements of the type torch.BitsStorage"}};
  EXPECT_EQ(file.skipped, skipped);
}

TEST(TorchSaveFile, DimensionsWithoutEnd) {
  const std::vector<int64_t> many(65, 1);
  EXPECT_EQ(refused_tensor(tensor(storage(6), 0, many, many)),
            "is damaged: its tensor 'w' has more than 64 dimensions");
}

TEST(TorchSaveFile, NamesThatNoTableCanShow) {
  const std::string one = tensor(storage(6), 0, {1}, {1});
  for (const char* name : {"\xff", "clear\x1b[2J", "two\nlines"}) {
    EXPECT_EQ(refused_tensor(one + "s" + text(name) + one),
              "names a tensor with bytes that are not printable text; expected UTF-8");
  }
  EXPECT_EQ(refused_tensor(one + "s" + text("größe") + one), "");
}

TEST(TorchSaveFile, ExecutesNothing) {
  const TemporaryFolder folder;
  const std::string call = "cos\nsystem\n" + text("touch " + (folder / "executed").string()) + "\x85R";
  EXPECT_EQ(refused_tensor(call), "holds no tensors by name; expected torch.save(model.state_dict(), ...)");
  EXPECT_EQ(refused_tensor(call + "s" + text("v") + tensor(storage(6), 0, {1}, {1})), "");
  EXPECT_FALSE(std::filesystem::exists(folder / "executed"));
}

TEST(TorchSaveFile, CallsWithMissingArguments) {
  EXPECT_NE(refused_tensor("ctorch._utils\n_rebuild_tensor_v2\n)R"), "");
  EXPECT_NE(refused_tensor("ctorch._utils\n_rebuild_parameter\n)R"), "");
  EXPECT_NE(refused_tensor("ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR"), "");
  EXPECT_NE(refusal(archive("\x80\x02]q\x01h\x01"
                            "a.")),
            "");
  EXPECT_NE(refusal(archive("\x80\x02}q\x01" + text("state_dict") + "h\x01s.")), "");
}

TEST(TorchSaveFile, UnknownByteOrder) {
  auto records = six_floats;
  records["byteorder"] = "middle";
  EXPECT_EQ(refusal(file_of(tensor(storage(6), 0, {1}, {1}), records)),
            "has an unknown byte order; expected little or big");
}

TEST(TorchSaveFile, OtherZipFiles) {
  std::string bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  });
  writer.writeRecord("readme", "text", 4);
  writer.writeEndOfFile();
  EXPECT_EQ(refusal(bytes), "is a zip file, but not one of torch.save");
}

TEST(TorchSaveFile, CompressedBombIsRefusedBeforeItIsUnpacked) {
  std::string bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  });
  const std::string pickle = "\x80\x02}" + text("w") + tensor(storage(5'000'000), 0, {1}, {1}) + "s.";
  const std::string zeros(20'000'000, '\0');
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  writer.writeRecord("data/0", zeros.data(), zeros.size(), /*compress=*/true);
  writer.writeEndOfFile();
  ASSERT_LT(bytes.size(), 100'000u);
  EXPECT_EQ(refusal(bytes), "is compressed or damaged; expected a file as torch.save writes it");
}

}  // namespace
}  // namespace mma::examples
