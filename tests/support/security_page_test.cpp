// SECURITY.md says which opcodes of a pickle are read: those of unpickler.cpp, no other.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace mma::tests {
namespace {

std::string read(const std::string& path) {
  std::ifstream stream(path);
  EXPECT_TRUE(stream.good()) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::set<std::string> matches_of(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) found.insert((*at)[1]);
  return found;
}

TEST(SecurityPage, NamesTheOpcodesThatAreRead) {
  const std::string page = read(MMA_TEST_DATA "/../../../SECURITY.md");
  const std::string source = read(MMA_TEST_DATA "/../../../examples/support/files/unpickler.cpp");
  const size_t from = page.find("every other one is refused:"), to = page.find("- A global", from);
  ASSERT_NE(to, std::string::npos);
  const std::set<std::string> named = matches_of(page.substr(from, to - from), std::regex("([A-Z][A-Z0-9_]+)"));
  // Each case of the machine's switch ends with the opcode's name.
  const std::set<std::string> read_there = matches_of(source, std::regex("case [^\\n]*// ([A-Z][A-Z0-9_]+)\\n"));
  EXPECT_GT(read_there.size(), 50U);
  EXPECT_EQ(named, read_there);
}

}  // namespace
}  // namespace mma::tests
