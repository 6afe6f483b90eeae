// Checksums against RFC 3720's examples; a record's bytes against the format's description, written out by hand.
#include "support/files/event_file.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace mma::examples {
namespace {

TEST(EventFile, ChecksumsAreThoseOfTheRfc) {  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(crc32c(rising), 0x46dd794eU);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
}

TEST(EventFile, ARecordIsLengthChecksumEventChecksum) {
  const std::string record = event_record(1.5, 300, {{"a", 2}});
  const std::string event = std::string("\x09\0\0\0\0\0\0\xf8\x3f", 9) +  // 1: 1.5 as double
                            "\x10\xac\x02" +                              // 2: 300 as varint
                            "\x2a\x0a" +                                  // 5: summary of 10 bytes
                            "\x0a\x08" +                                  // 1: value of 8 bytes
                            std::string(
                                "\x0a\x01"
                                "a"
                                "\x15\0\0\0\x40",
                                8);  // 1: tag, 2: 2 as float
  ASSERT_EQ(record.size(), 8 + 4 + event.size() + 4);
  EXPECT_EQ(record.substr(0, 8), std::string(1, static_cast<char>(event.size())) + std::string(7, '\0'));
  EXPECT_EQ(record.substr(12, event.size()), event);
}

TEST(EventFile, LeavesNanOut) {
  EXPECT_EQ(event_record(1, 1, {{"a", 1}, {"b", std::numeric_limits<double>::quiet_NaN()}}),
            event_record(1, 1, {{"a", 1}}));
}

}  // namespace
}  // namespace mma::examples
