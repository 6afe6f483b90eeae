#include "faces/pairs_file.hpp"

#include <c10/util/StringUtil.h>

#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "common/error.hpp"
#include "common/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t most_pairs = 10'000'000;

using Words = std::vector<std::string>;

Words words_of(const std::string& line) {
  std::istringstream stream(line);
  Words words;
  for (std::string word; stream >> word;) words.push_back(std::move(word));
  return words;
}

std::optional<int64_t> number_from_1(const std::string& word) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size() || number < 1) return std::nullopt;
  return number;
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path.string()), stream_(path) {
    if (!stream_ || fs::is_directory(path)) throw UserError(path_ + " cannot be read; expected LFW's pairs.txt");
  }

  PairsFile read() {
    const auto [folds, size] = header();
    file_.folds = folds;
    for (int64_t fold = 1; fold <= folds; ++fold) {
      for (int64_t i = 1; i <= size; ++i) same_pair(place(i, size, "pairs of one identity", fold));
      for (int64_t i = 1; i <= size; ++i) different_pair(place(i, size, "different pairs", fold));
    }
    if (next_line()) fail("expected the end of the file after " + std::to_string(2 * size * folds) + " pairs");
    return std::move(file_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw UserError(c10::str(path_, ", line ", line_, ": ", what, found_));
  }

  /// Splits the next line that is not blank into words_; false at the end of the file.
  bool next_line() {
    for (std::string line; std::getline(stream_, line);) {
      ++line_;
      words_ = words_of(line);
      if (words_.empty()) continue;
      while (line.ends_with('\r')) line.pop_back();
      constexpr size_t longest = 80;
      found_ = ", found '" + line.substr(0, longest) + "'";
      return true;
    }
    words_.clear();
    ++line_;
    found_ = ", found the end of the file";
    return false;
  }

  std::pair<int64_t, int64_t> header() {
    next_line();
    const std::string expected =
        "expected the number of folds and that of the pairs of each kind in a fold, as '10 300'";
    if (words_.size() != 2) fail(expected);
    const auto folds = number_from_1(words_[0]);
    const auto size = number_from_1(words_[1]);
    if (!folds || !size || *folds > most_pairs || *size > most_pairs / *folds) fail(expected);
    return {*folds, *size};
  }

  static std::string place(int64_t i, int64_t size, const char* kind, int64_t fold) {
    return c10::str(" (", i, " of ", size, " ", kind, " in fold ", fold, ")");
  }

  void same_pair(const std::string& place) {
    next_line();
    const std::string expected = "expected a name and two numbers of its images" + place;
    if (words_.size() != 3) fail(expected);
    const int64_t first = image(words_[0], words_[1], expected);
    const int64_t second = image(words_[0], words_[2], expected);
    if (first == second) fail("expected two images, not the same one twice" + place);
    file_.pairs.push_back({first, second, true});
  }

  void different_pair(const std::string& place) {
    next_line();
    const std::string expected = "expected a name, a number, another name and a number" + place;
    if (words_.size() != 4) fail(expected);
    const int64_t first = image(words_[0], words_[1], expected);
    const int64_t second = image(words_[2], words_[3], expected);
    if (words_[0] == words_[2]) fail("expected two names, not the same one twice" + place);
    file_.pairs.push_back({first, second, false});
  }

  /// Its place in the list, at the end of it when it is new.
  int64_t image(const std::string& identity, const std::string& word, const std::string& expected) {
    const auto number = number_from_1(word);
    const bool is_a_path = identity.find('/') != std::string::npos || identity.starts_with('.');
    if (!number || is_a_path) fail(expected);
    const auto [entry, is_new] = places_.try_emplace({identity, *number}, std::ssize(file_.images));
    if (is_new) file_.images.push_back({identity, *number, line_});
    return entry->second;
  }

  std::string path_;
  std::ifstream stream_;
  int64_t line_ = 0;
  Words words_;
  std::string found_;
  PairsFile file_;
  std::map<std::pair<std::string, int64_t>, int64_t> places_;
};

/// An empty path when there is none.
fs::path with_ending_that_exists(const fs::path& stem) {
  for (const char* ending : {".jpg", ".png", ".pgm"}) {
    fs::path path = stem;
    path += ending;
    if (fs::exists(path)) return path;
  }
  return {};
}

/// The first absent file's sentence, and the number of the others.
class Absent {
 public:
  void add(const std::string& sentence) {
    if (count_++ == 0) first_ = sentence;
  }
  void throw_if_any() const {
    if (count_ == 0) return;
    throw UserError(count_ == 1 ? first_ : c10::str(first_, " (and ", count_ - 1, " more images are absent)"));
  }

 private:
  std::string first_;
  int64_t count_ = 0;
};

}  // namespace

std::string NamedImage::name() const {
  return identity + formatted("/%s_%04lld", identity.c_str(), static_cast<long long>(number));
}

PairsFile read_pairs_file(const fs::path& path) { return Reader(path).read(); }

std::vector<fs::path> find_images(const std::vector<NamedImage>& images, const fs::path& folder,
                                  const std::string& pairs_file) {
  if (!fs::is_directory(folder)) {
    throw UserError("--images " + folder.string() + ": is no folder; expected one with a folder for each identity");
  }
  std::vector<fs::path> paths;
  Absent absent;
  for (const NamedImage& image : images) {
    const fs::path stem = folder / image.name();
    paths.push_back(with_ending_that_exists(stem));
    if (!paths.back().empty()) continue;
    const std::string named = c10::str(", which ", pairs_file, ", line ", image.line, ", names");
    if (!fs::is_directory(folder / image.identity)) {
      absent.add(c10::str(folder.string(), " has no folder ", image.identity, named));
    } else {
      absent.add(c10::str(stem.string(), ".jpg", named, ", is absent, and so are .png and .pgm"));
    }
  }
  absent.throw_if_any();
  return paths;
}

}  // namespace mma::examples
