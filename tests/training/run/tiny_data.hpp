// Small data sets in their publishers' formats, so that a training run takes a second.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "../../support/test_files.hpp"

namespace mma::tests {

inline std::string big_endian(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

/// A noisy picture whose brightness tells its label, so that there is something to learn.
inline std::string picture(int label, int pixels, std::mt19937& random) {
  std::string bytes;
  for (int i = 0; i < pixels; ++i) bytes += static_cast<char>(20 * label + static_cast<int>(random() % 32));
  return bytes;
}

/// Fashion-MNIST's files with `train` and `test` images of 28 x 28; image i shows class i % 10.
inline void write_tiny_fashion_mnist(const std::filesystem::path& folder, uint32_t train, uint32_t test) {
  std::filesystem::create_directories(folder);
  std::mt19937 random(1);
  for (const auto& [split, count] : {std::pair<std::string, uint32_t>{"train", train}, {"t10k", test}}) {
    std::string images = big_endian(0x803) + big_endian(count) + big_endian(28) + big_endian(28);
    std::string labels = big_endian(0x801) + big_endian(count);
    for (uint32_t i = 0; i < count; ++i) {
      const int label = static_cast<int>(i % 10);
      images += picture(label, 28 * 28, random);
      labels += static_cast<char>(label);
    }
    write_bytes(folder / (split + "-images-idx3-ubyte"), images);
    write_bytes(folder / (split + "-labels-idx1-ubyte"), labels);
  }
}

/// CIFAR-100's train.bin and test.bin.
inline void write_tiny_cifar100(const std::filesystem::path& folder, int train, int test) {
  std::filesystem::create_directories(folder);
  std::mt19937 random(1);
  for (const auto& [name, count] : {std::pair<std::string, int>{"train.bin", train}, {"test.bin", test}}) {
    std::string records;
    for (int i = 0; i < count; ++i) {
      records += std::string(1, '\0') + static_cast<char>(i % 100) + picture(i % 10, 3 * 32 * 32, random);
    }
    write_bytes(folder / name, records);
  }
}

}  // namespace mma::tests
