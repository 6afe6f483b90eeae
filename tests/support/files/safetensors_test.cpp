// safetensors files: what Python wrote, our own round trip, the exact bytes, and every way in which one can be broken.
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <limits>

#include "fixture_values.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

std::string little_endian(uint64_t number) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(number >> (8 * i));
  return bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return little_endian(header.size()) + header + std::string(data_bytes, 'd');
}

/// The file with one tensor "w" of 8 bytes, described by these fields.
std::string one_tensor(const std::string& fields, size_t data_bytes = 8) {
  return file_of("{\"w\":{" + fields + "}}", data_bytes);
}

const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

TEST(Safetensors, ReadsWhatPythonWrote) {
  const TensorFile file = read_tensor_file(fixture("every_type.safetensors"));
  expect_every_type(file);
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"note", "äöü"}}));
}

TEST(Safetensors, RoundTripOfEveryType) {
  const TemporaryFolder folder;
  write_tensor_file(folder / "again", read_tensor_file(fixture("every_type.safetensors")));
  const TensorFile again = read_tensor_file(folder / "again");
  expect_every_type(again);
  EXPECT_EQ(again.metadata.at("note"), "äöü");
}

TEST(Safetensors, RoundTripKeepsOrderAndSpecialNumbers) {
  const TemporaryFolder folder;
  const double infinity = std::numeric_limits<double>::infinity();
  const at::Tensor special = at::empty({4}, at::kDouble);
  const std::vector<double> values = {infinity, -infinity, -0.0, 5e-324};
  std::copy(values.begin(), values.end(), special.data_ptr<double>());
  const TensorFile file{
      {{"z", special}, {"a", fill({2, 3, 4}, 2).transpose(0, 2)}, {"b", fill({4}, 1).requires_grad_()}}, {}};
  write_tensor_file(folder / "f", file);
  const TensorFile again = read_tensor_file(folder / "f");
  ASSERT_EQ(again.tensors.size(), 3u);
  EXPECT_EQ(again.tensors[0].first + again.tensors[1].first + again.tensors[2].first, "zab");
  EXPECT_EQ(std::string(static_cast<const char*>(again.tensors[0].second.data_ptr()), 32),
            std::string(reinterpret_cast<const char*>(values.data()), 32));
  expect_tensor(again, "a", at::kDouble, fill({2, 3, 4}, 2).transpose(0, 2));
  expect_tensor(again, "b", at::kDouble, fill({4}, 1));
  EXPECT_TRUE(again.metadata.empty());
}

TEST(Safetensors, WritesTheFormatByteForByte) {
  const TemporaryFolder folder;
  const at::Tensor small = at::arange(1, 3, at::kByte);
  const at::Tensor wide = at::arange(258, 260, at::kInt);
  write_tensor_file(folder / "f", {{{"small", small}, {"wide", wide}}, {{"key", "value"}}});
  // The wide elements come first in the data, so that they are aligned; blanks fill the header to a multiple of 8.
  std::string header = R"({"__metadata__":{"key":"value"},"small":{"dtype":"U8","shape":[2],"data_offsets":[8,10]},)"
                       R"("wide":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_bytes(folder / "f"),
            little_endian(header.size()) + header + std::string("\x02\x01\x00\x00\x03\x01\x00\x00\x01\x02", 10));
}

TEST(Safetensors, FileWithoutTensors) {
  const TemporaryFolder folder;
  write_tensor_file(folder / "f", {});
  EXPECT_TRUE(read_tensor_file(folder / "f").tensors.empty());
}

TEST(Safetensors, WriterRefusesWhatTheFormatCannotHold) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", "old");
  const auto refused = [&](const TensorFile& file) {
    return message_of<UserError>([&] { write_tensor_file(folder / "f", file); });
  };
  const at::Tensor tensor = fill({2}, 0);
  EXPECT_NE(refused({{{"c", tensor.to(at::kComplexDouble)}}, {}}), "");
  EXPECT_NE(refused({{{"twice", tensor}, {"twice", tensor}}, {}}), "");
  EXPECT_NE(refused({{{"__metadata__", tensor}}, {}}), "");
  EXPECT_NE(refused({{{"\xff", tensor}}, {}}), "");
  EXPECT_EQ(read_bytes(folder / "f"), "old");
}

TEST(Safetensors, BytesThatAreNoBoolBecomeOne) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", one_tensor(R"("dtype":"BOOL","shape":[8],"data_offsets":[0,8])"));
  const TensorFile file = read_tensor_file(folder / "f");
  EXPECT_EQ(static_cast<const char*>(file.find("w")->data_ptr())[0], 1);
}

TEST(Safetensors, Truncated) {
  const std::string bytes = read_bytes(fixture("every_type.safetensors"));
  expect_truncations_refused(bytes, 1);
  EXPECT_NE(refusal(bytes.substr(0, bytes.size() - 1)).find("truncated"), std::string::npos);
}

TEST(Safetensors, TrailingBytes) {
  EXPECT_EQ(refusal(one_tensor(good)), "");
  EXPECT_EQ(refusal(one_tensor(good, 9)), "is damaged: bytes follow after its last tensor");
}

TEST(Safetensors, HeaderLength) {
  EXPECT_NE(refusal(little_endian(100'000'000) + "{}").find("truncated"), std::string::npos);
  EXPECT_NE(refusal(little_endian(100'000'001) + "{}"), "");
  EXPECT_NE(refusal(little_endian(~uint64_t{0}) + "{}"), "");
  EXPECT_NE(refusal(little_endian(1) + "{}").find("JSON"), std::string::npos);
}

TEST(Safetensors, HeaderThatIsNoJson) {
  EXPECT_NE(refusal(file_of("{\"w\":", 0)).find("JSON"), std::string::npos);
  EXPECT_NE(refusal(file_of("{\"\xff\":1}", 0)), "");
  EXPECT_NE(refusal(file_of("{\"__metadata__\":{\"a\":1}}", 0)).find("__metadata__"), std::string::npos);
  EXPECT_NE(refusal(file_of("{\"w\":4e999}", 0)).find("JSON"), std::string::npos);
  EXPECT_NE(refusal(file_of("{\"w\":3}", 0)).find("'w'"), std::string::npos);
  EXPECT_NE(refusal(file_of("{\"w\":[]}", 0)).find("'w'"), std::string::npos);
}

TEST(Safetensors, HeaderNestedWithoutEnd) {
  const std::string deep = "{\"w\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  EXPECT_EQ(refusal(file_of(deep, 0)), "its safetensors header is nested more than 4 deep");
}

TEST(Safetensors, NameGivenTwice) {
  const std::string twice = "{\"w\":{" + good + "},\"w\":{" + good + "}}";
  EXPECT_EQ(refusal(file_of(twice, 8)), "its safetensors header names the tensor 'w' twice");
}

TEST(Safetensors, MissingAndMistypedFields) {
  for (const char* fields :
       {R"("shape":[2],"data_offsets":[0,8])", R"("dtype":"F32","data_offsets":[0,8])", R"("dtype":"F32","shape":[2])",
        R"("dtype":4,"shape":[2],"data_offsets":[0,8])", R"("dtype":"F32","shape":2,"data_offsets":[0,8])",
        R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])", R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])",
        R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])", R"("dtype":"F32","shape":[2],"data_offsets":[8])",
        R"("dtype":"F32","shape":[2],"data_offsets":[0,4,8])", R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])",
        R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"}) {
    EXPECT_EQ(refusal(one_tensor(fields)), "its tensor 'w' is not described by dtype, shape and data_offsets")
        << fields;
  }
}

TEST(Safetensors, TypesThatNoLayerHas) {
  const TemporaryFolder folder;
  for (const auto& [name, type, elements] :
       std::vector<std::tuple<std::string, at::ScalarType, std::string>>{{"F8_E4M3", at::kFloat8_e4m3fn, "8"},
                                                                         {"F8_E5M2", at::kFloat8_e5m2, "8"},
                                                                         {"F8_E8M0", at::kFloat8_e8m0fnu, "8"},
                                                                         {"U16", at::kUInt16, "4"},
                                                                         {"U32", at::kUInt32, "2"},
                                                                         {"U64", at::kUInt64, "1"},
                                                                         {"C64", at::kComplexFloat, "1"}}) {
    write_bytes(folder / "f",
                one_tensor("\"dtype\":\"" + name + "\",\"shape\":[" + elements + "],\"data_offsets\":[0,8]"));
    const TensorFile file = read_tensor_file(folder / "f");
    ASSERT_EQ(file.tensors.size(), 1u) << name;
    EXPECT_EQ(file.tensors[0].second.scalar_type(), type);
  }
}

TEST(Safetensors, TensorsOfUnknownTypesAreSkipped) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", file_of(R"({"w":{"dtype":"F4","shape":[8],"data_offsets":[0,4]},)"
                                    R"("v":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                    8));
  const TensorFile file = read_tensor_file(folder / "f");
  ASSERT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.tensors[0].first, "v");
  ASSERT_EQ(file.skipped.size(), 1u);
  EXPECT_EQ(file.skipped[0].second, "elements of the type F4");
  EXPECT_EQ(refusal(one_tensor(R"("dtype":"F4","shape":[16],"data_offsets":[0,9])")),
            "is truncated or damaged: its tensor 'w' lies outside the file");
}

TEST(Safetensors, ManyNames) {
  std::string header;
  for (int i = 0; i < 30'000; ++i) {
    header += (i == 0 ? "{\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_EQ(refusal(file_of(header + "}", 0)), "");  // in a blink: not each name beside all others
}

TEST(Safetensors, KeyIsAPrefix) {
  const TemporaryFolder folder;
  const at::Tensor tensor = fill({2}, 0);
  write_tensor_file(folder / "f", {{{"a.x", tensor}, {"a.b.y", tensor}, {"ab.z", tensor}}, {}});
  const TensorFile file = read_tensor_file(folder / "f", "a");
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].first + ' ' + file.tensors[1].first, "x b.y");
  EXPECT_EQ(message_of<UserError>([&] { read_tensor_file(folder / "f", "c"); }),
            (folder / "f").string() + ": --key c: no tensor's name begins with c.");
}

TEST(Safetensors, ShapesThatDoNotFit) {
  for (const char* shape : {"[1]", "[3]", "[]", "[0]", "[2,2]"}) {
    EXPECT_EQ(refusal(one_tensor("\"dtype\":\"F32\",\"shape\":" + std::string(shape) + ",\"data_offsets\":[0,8]")),
              "its tensor 'w' has a shape that does not match its length in bytes")
        << shape;
  }
  // Products that come out as 8 bytes, or as none, when they overflow.
  for (const char* shape : {"[4611686018427387904,4,2]", "[9223372036854775807,9223372036854775807,2]",
                            "[0,9223372036854775807,9223372036854775807]", "[9223372036854775807,2,0]"}) {
    EXPECT_EQ(refusal(one_tensor("\"dtype\":\"F32\",\"shape\":" + std::string(shape) + ",\"data_offsets\":[0,8]")),
              "its tensor 'w' has an impossibly large shape")
        << shape;
  }
}

TEST(Safetensors, PlacesThatDoNotFit) {
  const auto two = [](const std::string& first, const std::string& second, size_t bytes) {
    const std::string start = R"(:{"dtype":"U8","shape":[4],"data_offsets":)";
    return refusal(file_of("{\"a\"" + start + first + "},\"b\"" + start + second + "}}", bytes));
  };
  EXPECT_EQ(two("[4,8]", "[0,4]", 8), "");
  EXPECT_EQ(two("[0,4]", "[0,4]", 4), "is damaged: its tensors overlap or leave a gap");
  EXPECT_EQ(two("[0,4]", "[2,6]", 6), "is damaged: its tensors overlap or leave a gap");
  EXPECT_EQ(two("[0,4]", "[5,9]", 9), "is damaged: its tensors overlap or leave a gap");
  EXPECT_EQ(two("[1,5]", "[5,9]", 9), "is damaged: its tensors overlap or leave a gap");
  EXPECT_EQ(two("[0,4]", "[4,8]", 7), "is truncated or damaged: its tensor 'b' lies outside the file");
  EXPECT_EQ(two("[0,4]", "[8,4]", 8), "is truncated or damaged: its tensor 'b' lies outside the file");
}

TEST(TensorFile, FilesOfOtherKinds) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& name) {
    return message_of<UserError>([&] { read_tensor_file(folder / name); });
  };
  EXPECT_EQ(refused("absent"), "cannot read " + (folder / "absent").string() + ": No such file or directory");
  EXPECT_EQ(refused(""), (folder / "").string() + ": is not a file; expected a file of weights");
  EXPECT_EQ(refusal(""), "is empty; expected a file of weights");
  const std::string neither = "is neither a safetensors file nor a file of torch.save";
  EXPECT_EQ(refusal("hello"), neither);
  EXPECT_EQ(refusal("\x89HDF\r\n\x1a\n and more bytes"), neither);
  EXPECT_EQ(refusal(std::string(100, '\0')), neither);
  EXPECT_EQ(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n"),
            "is a pointer of Git LFS and not the file itself; `git lfs pull` fetches it");
  EXPECT_EQ(refusal(R"({"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors",)"
                    R"("c": "model-1.safetensors"}})"),
            "is the index of a model in several files; expected one of them: model-1.safetensors, model-2.safetensors");
  EXPECT_EQ(refusal("{\"weight_map\": 3}"), neither);
  EXPECT_EQ(refusal("{"), neither);
  EXPECT_EQ(refusal("\x08\x08\x12\x07pytorch\x1a\x05"),
            "is an ONNX model; expected the weights that it was exported from: torch.save(model.state_dict(), ...)");
}

}  // namespace
}  // namespace mma::examples
