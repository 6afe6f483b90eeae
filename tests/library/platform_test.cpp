// Shell patterns against the system's fnmatch, libraries that are there and that are not, NaN and Inf by their bits.
#include <fnmatch.h>
#include <gtest/gtest.h>
#include <mma/detail/pairs/math.hpp>
#include <mma/detail/platform.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using mma::detail::matches;
using mma::detail::SharedLibrary;

bool by_fnmatch(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

/// fnmatch contradicts itself over a '[' that is never closed: that it stands for itself is tested by hand.
bool closes_its_sets(const std::string& pattern) {
  for (size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] == '\\') {
      ++at;
    } else if (pattern[at] == '[') {
      const size_t end = mma::detail::shell::end_of_set(pattern, at);
      if (end == at) {
        return false;
      }
      at = end - 1;
    }
  }
  return true;
}

TEST(ShellPatterns, AreThoseOfFnmatch) {
  const std::vector<std::string> patterns{"",
                                          "*",
                                          "**",
                                          "?",
                                          "??",
                                          "layer1.*",
                                          "*.weight",
                                          "*conv*",
                                          "layer?.conv",
                                          "[abc]",
                                          "[a-c]*",
                                          "[!a-c]",
                                          "[^a-c]",
                                          "[]a]",
                                          "[!]a]",
                                          "[a-]",
                                          "[-a]",
                                          "[--/]",
                                          "[c-a]",
                                          "a\\*b",
                                          "\\?",
                                          "\\",
                                          "a\\",
                                          "[\\]]",
                                          "[\\a-c]",
                                          "[a\\-c]",
                                          "[a-\\c]",
                                          "*[0-9]",
                                          "*a*b*c*d",
                                          "*aaab",
                                          "[!!]",
                                          "[a-c-e]",
                                          "a[.]b",
                                          "\\a\\b",
                                          "[[]",
                                          "[a[]",
                                          "*.",
                                          ".*",
                                          "*/b",
                                          "features.[0-9]*.conv",
                                          "layer[1-3].?.conv[12]",
                                          "[*]",
                                          "[?]",
                                          "*\\**",
                                          "\\[a]"};
  const std::vector<std::string> names{"",
                                       "a",
                                       "b",
                                       "c",
                                       "d",
                                       "-",
                                       "!",
                                       "^",
                                       "]",
                                       "[",
                                       "\\",
                                       "*",
                                       "?",
                                       "a*b",
                                       "aXb",
                                       "ab",
                                       "a.b",
                                       "a/b",
                                       ".a",
                                       "a.",
                                       "abcd",
                                       "xaybzcwd",
                                       "aaaaab",
                                       "conv",
                                       "layer1.0.conv1",
                                       "layer1.conv",
                                       "layer4.0.conv3",
                                       "fc.weight",
                                       "features.12.conv",
                                       "e",
                                       "[a]",
                                       "/",
                                       ",",
                                       "\xc3\xa9",
                                       "conv9"};
  for (const std::string& pattern : patterns) {
    for (const std::string& name : names) {
      EXPECT_EQ(matches(pattern, name), by_fnmatch(pattern, name)) << '\'' << pattern << "' on '" << name << '\'';
    }
  }
}

TEST(ShellPatterns, AreThoseOfFnmatchWhateverIsWritten) {
  std::mt19937 random(7);
  const std::string pattern_letters = "ab.*?[]!-\\^", name_letters = "ab.]-!\\[";
  const auto text = [&](const std::string& letters, size_t longest) {
    std::string result(random() % (longest + 1), ' ');
    for (char& c : result) c = letters[random() % letters.size()];
    return result;
  };
  int compared = 0, matched = 0;
  for (int k = 0; k < 300000; ++k) {
    const std::string pattern = text(pattern_letters, 8), name = text(name_letters, 5);
    if (!closes_its_sets(pattern) || pattern.find("[.") != std::string::npos) {  // [.x.] is fnmatch's own
      continue;
    }
    ++compared;
    matched += matches(pattern, name);
    ASSERT_EQ(matches(pattern, name), by_fnmatch(pattern, name)) << '\'' << pattern << "' on '" << name << '\'';
  }
  EXPECT_GT(compared, 100000);
  EXPECT_GT(matched, 5000);
}

TEST(ShellPatterns, ASetThatIsNeverClosedStandsForItself) {
  EXPECT_TRUE(matches("[ab", "[ab"));
  EXPECT_TRUE(matches("[a*", "[a, and more"));
  EXPECT_FALSE(matches("[ab", "a"));
  EXPECT_TRUE(matches("[", "["));
  EXPECT_TRUE(matches("[!", "[!"));
  EXPECT_TRUE(matches("[]", "[]"));
}

TEST(ShellPatterns, ManyStarsAreNoTrap) {
  std::string pattern;
  for (int k = 0; k < 40; ++k) pattern += "*a";
  EXPECT_FALSE(matches(pattern + "b", std::string(2000, 'a')));  // exponential, were every star tried with every other
}

#ifdef __linux__
TEST(SharedLibraries, AreFoundByName) {
  const SharedLibrary math("libm.so.6");
  ASSERT_TRUE(math);
  double (*cosine)(double) = nullptr;
  math.find(cosine, "cos");
  ASSERT_NE(cosine, nullptr);
  EXPECT_EQ(cosine(0.0), 1.0);
  math.find(cosine, "no_such_function");
  EXPECT_EQ(cosine, nullptr);
  EXPECT_NE(math.folder().find("lib"), std::string::npos);
}

TEST(SharedLibraries, OnlyWhereTheyAreLoadedIfThatIsAsked) {
  EXPECT_TRUE(SharedLibrary("libc.so.6", SharedLibrary::Open::IfLoaded));
  EXPECT_FALSE(SharedLibrary("libBrokenLocale.so.1", SharedLibrary::Open::IfLoaded));
  void* (*allocate)(size_t) = nullptr;
  SharedLibrary::find_in_process(allocate, "malloc");
  EXPECT_NE(allocate, nullptr);
}
#endif

TEST(SharedLibraries, OneThatIsNotThereFindsNothing) {
  for (const SharedLibrary& library : {SharedLibrary(), SharedLibrary("libno-such-library.so")}) {
    EXPECT_FALSE(library);
    EXPECT_EQ(library.folder(), "");
    void (*function)() = [] {};
    library.find(function, "malloc");
    EXPECT_EQ(function, nullptr);
  }
}

TEST(Floating, NanAndInfByTheirBits) {
  using mma::detail::pairs::is_finite;
  using mma::detail::pairs::is_nan;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {0.0, -0.0, 1.5, -1e308, 5e-324, std::numeric_limits<double>::max()}) {
    EXPECT_TRUE(is_finite(value)) << value;
    EXPECT_FALSE(is_nan(value)) << value;
  }
  for (const double value : {infinity, -infinity}) {
    EXPECT_FALSE(is_finite(value));
    EXPECT_FALSE(is_nan(value));
  }
  const double quiet = std::nan(""), signalling = std::numeric_limits<double>::signaling_NaN();
  for (const double value : {quiet, -quiet, signalling, mma::detail::pairs::not_a_number()}) {
    EXPECT_FALSE(is_finite(value));
    EXPECT_TRUE(is_nan(value));
  }
}

}  // namespace
