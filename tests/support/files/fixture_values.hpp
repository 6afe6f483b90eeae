// What the files in data/ hold, by the formulas of make_fixtures.py.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../test_files.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"

namespace mma::tests {

inline std::filesystem::path fixture(const std::string& name) { return std::filesystem::path(MMA_TEST_DATA) / name; }

/// float64 [shape]: element i is ((7 i + salt) % 64 - 32) / 16.
inline at::Tensor fill(const std::vector<int64_t>& shape, int64_t salt) {
  const at::Tensor tensor = at::empty(shape, at::kDouble);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<double>()[i] = static_cast<double>((7 * i + salt) % 64 - 32) / 16;
  }
  return tensor;
}

/// float64 [shape]: element i is (7 i + salt) % 64.
inline at::Tensor whole_numbers(const std::vector<int64_t>& shape, int64_t salt) { return fill(shape, salt) * 16 + 32; }

/// Checks name, type, shape and every element.
inline void expect_tensor(const examples::TensorFile& file, const std::string& name, at::ScalarType type,
                          const at::Tensor& expected) {
  const at::Tensor* tensor = file.find(name);
  ASSERT_NE(tensor, nullptr) << name;
  EXPECT_EQ(tensor->scalar_type(), type) << name;
  ASSERT_EQ(tensor->sizes(), expected.sizes()) << name;
  EXPECT_TRUE(tensor->to(at::kDouble).equal(expected)) << name << '\n' << *tensor << '\n' << expected;
}

/// The tensors that every_type() of make_fixtures.py makes.
inline void expect_every_type(const examples::TensorFile& file) {
  EXPECT_EQ(file.tensors.size(), 12u);
  expect_tensor(file, "float64", at::kDouble, fill({3, 5}, 1));
  expect_tensor(file, "float32", at::kFloat, fill({3, 5}, 1));
  expect_tensor(file, "float16", at::kHalf, fill({3, 5}, 1));
  expect_tensor(file, "bfloat16", at::kBFloat16, fill({3, 5}, 1));
  expect_tensor(file, "int64", at::kLong, whole_numbers({3, 5}, 1));
  expect_tensor(file, "int32", at::kInt, whole_numbers({3, 5}, 1));
  expect_tensor(file, "int16", at::kShort, whole_numbers({3, 5}, 1));
  expect_tensor(file, "int8", at::kChar, whole_numbers({3, 5}, 1));
  expect_tensor(file, "uint8", at::kByte, whole_numbers({3, 5}, 1));
  expect_tensor(file, "bool", at::kBool, whole_numbers({3, 5}, 1).remainder(2));
  expect_tensor(file, "scalar", at::kFloat, at::empty({}, at::kDouble).fill_(2.5));
  expect_tensor(file, "empty", at::kFloat, at::empty({0, 5}, at::kDouble));
}

/// Reads bytes as a file and returns the sentence of the UserError, without the file's name before it; "" when it is
/// read without error.
inline std::string refusal(const std::string& bytes) {
  static const TemporaryFolder folder;
  const auto path = folder / "file";
  write_bytes(path, bytes);
  const std::string message = message_of<examples::UserError>([&] { examples::read_tensor_file(path); });
  const std::string prefix = path.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

/// Every shorter version of a file must be refused.
inline void expect_truncations_refused(const std::string& bytes, size_t step) {
  for (size_t length = 0; length < bytes.size(); length += step) {
    EXPECT_NE(refusal(bytes.substr(0, length)), "") << "first " << length << " bytes of " << bytes.size();
  }
}

}  // namespace mma::tests
