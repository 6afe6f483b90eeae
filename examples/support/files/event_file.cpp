#include "support/files/event_file.hpp"

#include <array>
#include <bit>
#include <cmath>

namespace mma::examples {
namespace {

// --- protocol buffers: a field is its key (number and kind of encoding), then its value ------------------------------

enum Encoding : uint64_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

template <class Unsigned>
std::string little_endian(Unsigned value) {
  std::string bytes;
  for (size_t k = 0; k < sizeof value; ++k) bytes += static_cast<char>(value >> (8 * k) & 255);
  return bytes;
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes += static_cast<char>(value);
}

std::string key(uint64_t field, Encoding encoding) { return varint(field << 3 | encoding); }

std::string fixed64(uint64_t field, double value) {
  return key(field, Fixed64) + little_endian(std::bit_cast<uint64_t>(value));
}

std::string fixed32(uint64_t field, float value) {
  return key(field, Fixed32) + little_endian(std::bit_cast<uint32_t>(value));
}

std::string bytes(uint64_t field, const std::string& value) { return key(field, Bytes) + varint(value.size()) + value; }

// The field numbers of tensorflow/core/util/event.proto and framework/summary.proto.
constexpr uint64_t event_wall_time = 1, event_step = 2, event_file_version = 3, event_summary = 5;
constexpr uint64_t summary_value = 1, value_tag = 1, value_simple = 2;

// --- records ---------------------------------------------------------------------------------------------------------

std::array<uint32_t, 256> crc_of_bytes() {
  constexpr uint32_t reversed_polynomial = 0x82f63b78;
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? reversed_polynomial : 0);
    table[byte] = crc;
  }
  return table;
}

/// A checksum of data that holds checksums would be weak: TFRecord turns and shifts it.
uint32_t masked_crc(const std::string& data) { return std::rotr(crc32c(data), 15) + 0xa282ead8U; }

std::string framed(const std::string& event) {
  const std::string length = little_endian(uint64_t{event.size()});
  return length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
}

}  // namespace

uint32_t crc32c(const std::string& bytes) {
  static const std::array<uint32_t, 256> table = crc_of_bytes();
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 255];
  return ~crc;
}

std::string event_file_beginning(double time) {
  return framed(fixed64(event_wall_time, time) + bytes(event_file_version, "brain.Event:2"));
}

std::string event_record(double time, int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    if (std::isnan(value)) continue;
    summary += bytes(summary_value, bytes(value_tag, tag) + fixed32(value_simple, static_cast<float>(value)));
  }
  return framed(fixed64(event_wall_time, time) + key(event_step, Varint) + varint(static_cast<uint64_t>(step)) +
                bytes(event_summary, summary));
}

}  // namespace mma::examples
