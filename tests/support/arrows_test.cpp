// Where the programs' files may look: to the library's public names, and downwards. support knows no other room,
// training's data and processes know only support, its networks the processes too, a program knows no other program.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "test_files.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;

const fs::path& examples() {
  static const fs::path folder = fs::canonical(fs::path(MMA_TEST_DATA) / "../../../examples");
  return folder;
}

/// By the path below examples/.
std::map<std::string, std::string> sources() {
  std::map<std::string, std::string> texts;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(examples())) {
    const std::string extension = entry.path().extension();
    if (extension != ".hpp" && extension != ".cpp" && extension != ".in") continue;
    texts[fs::relative(entry.path(), examples())] = read_bytes(entry.path());
  }
  return texts;
}

/// The line and its number of each place where the pattern is found.
std::vector<std::string> places(const std::string& path, const std::string& text, const std::regex& pattern) {
  std::vector<std::string> found;
  std::istringstream stream(text);
  int number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (std::regex_search(line, pattern)) found.push_back(path + ":" + std::to_string(number) + ": " + line);
  }
  return found;
}

/// What the library keeps to itself; CLI::detail and the like are other libraries' affairs.
const std::regex& inner_names() {
  static const std::regex pattern("mma::detail|(^|[^:\\w])detail::|#\\s*include\\s*[<\"](mma/)?detail/");
  return pattern;
}

/// The rooms a file's room may look into, itself among them. A room is named by how paths in it begin.
const std::map<std::string, std::vector<std::string>>& rooms() {
  static const std::map<std::string, std::vector<std::string>> below = {
      {"support/", {"support/"}},
      {"training/data/", {"training/data/", "support/"}},
      {"training/distributed/", {"training/distributed/", "support/"}},
      {"training/models/", {"training/models/", "training/distributed/", "support/"}},
      {"training/settings/",
       {"training/settings/", "training/data/", "training/distributed/", "training/models/", "support/"}},
      {"training/run/", {"training/", "support/"}},
      {"train/", {"train/", "training/", "support/"}},
      {"faces/", {"faces/", "training/", "support/"}},
      {"tammes/", {"tammes/", "training/", "support/"}},
      {"angles/", {"angles/", "training/", "support/"}},
      {"reproduce/", {"reproduce/", "training/", "support/"}},
      {"quickstart/", {}},
      {"own_objective/", {}},
      {"distributed/", {}},
  };
  return below;
}

bool is_allowed(const std::string& path, const std::string& included) {
  const auto room = std::ranges::find_if(rooms(), [&](const auto& entry) { return path.starts_with(entry.first); });
  if (room == rooms().end()) return false;
  const auto is_in = [&](const std::string& below) { return included.starts_with(below); };
  return included.starts_with("mma/") || std::ranges::any_of(room->second, is_in);
}

std::vector<std::string> wrong_arrows(const std::string& path, const std::string& text) {
  static const std::regex include("#\\s*include\\s*\"([^\"]*)\"");
  std::vector<std::string> wrong;
  for (std::sregex_iterator found(text.begin(), text.end(), include), end; found != end; ++found) {
    if (!is_allowed(path, found->str(1))) wrong.push_back(path + " -> " + found->str(1));
  }
  return wrong;
}

const std::vector<std::string> none;

TEST(Arrows, ProgramsUseTheLibrarysPublicNamesAlone) {
  for (const auto& [path, text] : sources()) EXPECT_EQ(places(path, text, inner_names()), none);
}

TEST(Arrows, LeadDownwards) {
  const auto texts = sources();
  EXPECT_GT(texts.size(), 100U);
  for (const auto& [path, text] : texts) EXPECT_EQ(wrong_arrows(path, text), none);
}

TEST(Arrows, AreSeen) {
  const auto is_inner = [](const std::string& line) { return !places("file", line, inner_names()).empty(); };
  EXPECT_TRUE(is_inner("  mma::detail::tammes::unit(points);"));
  EXPECT_TRUE(is_inner("  detail::threads(4);"));
  EXPECT_TRUE(is_inner("#include <mma/detail/threads.hpp>"));
  EXPECT_TRUE(is_inner("#include \"mma/detail/threads.hpp\""));
  EXPECT_FALSE(is_inner("  if (CLI::detail::is_mutable_container<T>::value) return;"));
  EXPECT_EQ(wrong_arrows("support/a.hpp", "#include \"training/run/run.hpp\"\n").size(), 1U);
  EXPECT_EQ(wrong_arrows("training/models/a.hpp", "#include \"training/run/sgd.hpp\"\n").size(), 1U);
  EXPECT_EQ(wrong_arrows("reproduce/a.cpp", "#include \"angles/histograms.hpp\"\n").size(), 1U);
  EXPECT_EQ(wrong_arrows("new_room/a.cpp", "#include \"support/process/error.hpp\"\n").size(), 1U);
  EXPECT_EQ(wrong_arrows("train/a.cpp", "#include \"mma/mma.hpp\"\n#include \"training/run/run.hpp\"\n"), none);
}

}  // namespace
}  // namespace mma::tests
