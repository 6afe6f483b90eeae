// TensorBoard's event files, written: records of scalars by step, each a protocol buffer (tensorflow.Event) framed with
// its length and two checksums.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

using Scalars = std::vector<std::pair<std::string, double>>;  ///< by tag, such as "accuracy/top-1"

/// The record that an event file begins with. `time`: seconds since 1970.
std::string event_file_beginning(double time);

/// The scalars of one step as one record; they are float32 in the file. A NaN is left out.
std::string event_record(double time, int64_t step, const Scalars& scalars);

/// CRC-32C (Castagnoli), as RFC 3720 has it.
uint32_t crc32c(const std::string& bytes);

}  // namespace mma::examples
