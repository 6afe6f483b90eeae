#include "faces/pairs_file.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "support/files/file_contents.hpp"
#include "support/files/paths.hpp"
#include "support/images/image_folder.hpp"
#include "support/process/error.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t most_pairs = 10'000'000;
constexpr uint64_t most_bytes = uint64_t{1} << 30;

using Words = std::vector<std::string>;

/// Between blanks; in a csv file between commas, of which one may end the line.
Words words_of(std::string_view line, bool commas) {
  constexpr std::string_view blanks = " \t\r\v\f";
  const std::string separators(commas ? "," : blanks);
  Words words;
  for (size_t begin = 0; begin < line.size();) {
    const size_t end = std::min(line.find_first_of(separators, begin), line.size());
    std::string_view word = line.substr(begin, end - begin);
    word.remove_prefix(std::min(word.find_first_not_of(blanks), word.size()));
    word = word.substr(0, word.find_last_not_of(blanks) + 1);
    if (!word.empty()) words.emplace_back(word);
    begin = end + 1;
  }
  return words;
}

std::optional<int64_t> number_from_1(const std::string& word) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size() || number < 1) return std::nullopt;
  return number;
}

/// The folds of pairs that alternate as pairs.txt has them: so many of one identity, as many different ones, and so on.
int64_t folds_of(const std::vector<ImagePair>& pairs) {
  const auto first_run = std::ranges::find(pairs, false, &ImagePair::same) - pairs.begin();
  const int64_t count = std::ssize(pairs);
  if (first_run == 0 || count % (2 * first_run) != 0) return 1;
  for (int64_t i = 0; i < count; ++i) {
    if (pairs[static_cast<size_t>(i)].same != (i / first_run % 2 == 0)) return 1;
  }
  return count / (2 * first_run);
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path.string()), stream_(contents_of(path, most_bytes)) {}

  PairsFile read() {
    next_line();
    if (words_.size() > 2 && words_[0] == "name" && words_[1] == "imagenum1") return read_csv();
    const auto [folds, size] = header();
    file_.folds = folds;
    for (int64_t fold = 1; fold <= folds; ++fold) {
      for (int64_t i = 1; i <= size; ++i) next_pair(true, place(i, size, "pairs of one identity", fold));
      for (int64_t i = 1; i <= size; ++i) next_pair(false, place(i, size, "different pairs", fold));
    }
    if (next_line()) fail("expected the end of the file after " + std::to_string(2 * size * folds) + " pairs");
    return std::move(file_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw UserError(c10::str(path_, ", line ", line_, ": ", what, found_));
  }

  /// Kaggle's: a heading, then a pair a line. Its folds show only in the order.
  PairsFile read_csv() {
    while (next_line()) {
      if (std::ssize(file_.pairs) == most_pairs) fail(c10::str("expected at most ", most_pairs, " pairs"));
      take_pair(words_.size() == 3, "");
    }
    for (const bool same : {true, false}) {
      if (std::ranges::find(file_.pairs, same, &ImagePair::same) != file_.pairs.end()) continue;
      throw UserError(path_ + (same ? ": has no pair of one identity" : ": has no different pair") +
                      "; expected both kinds in one file, as in pairs.csv");
    }
    file_.folds = folds_of(file_.pairs);
    return std::move(file_);
  }

  /// Splits the next line that is not blank into words_; false at the end of the file.
  bool next_line() {
    for (std::string line; std::getline(stream_, line);) {
      if (line_++ == 0) {
        if (line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
        commas_ = line.find(',') != std::string::npos;
      }
      while (line.ends_with('\r')) line.pop_back();
      constexpr size_t longest = 80;
      found_ = ", found '" + line.substr(0, longest) + "'";
      words_ = words_of(line, commas_);
      if (!words_.empty()) return true;
    }
    words_.clear();
    ++line_;
    found_ = ", found the end of the file";
    return false;
  }

  /// "10 300", or for one fold "300".
  std::pair<int64_t, int64_t> header() {
    if (words_.size() == 2 && is_image_name(words_[0])) {
      fail("a list of images in the style of CPLFW is not read; expected LFW's, which begins as '10 300'");
    }
    const std::string expected =
        "expected the number of folds and that of the pairs of each kind in a fold, as '10 300' (for one fold '300')";
    if (words_.empty() || words_.size() > 2) fail(expected);
    const auto folds = words_.size() == 2 ? number_from_1(words_[0]) : 1;
    const auto size = number_from_1(words_.back());
    if (!folds || !size || *folds > most_pairs || *size > most_pairs / *folds) fail(expected);
    return {*folds, *size};
  }

  static std::string place(int64_t i, int64_t size, const char* kind, int64_t fold) {
    return c10::str(" (", i, " of ", size, " ", kind, " in fold ", fold, ")");
  }

  void next_pair(bool same, const std::string& place) {
    next_line();
    take_pair(same, place);
  }

  void take_pair(bool same, const std::string& place) {
    const size_t second = same ? 0 : 2;  // where the second name is; its number comes last
    const std::string expected = (same ? "expected a name and two numbers of its images"
                                       : "expected a name, a number, another name and a number") +
                                 place;
    if (words_.size() != (same ? 3 : 4)) fail(expected);
    const ImagePair pair{image(words_[0], words_[1], expected), image(words_[second], words_.back(), expected), same};
    if (same && pair.first == pair.second) fail("expected two images, not the same one twice" + place);
    if (!same && words_[0] == words_[2]) fail("expected two names, not the same one twice" + place);
    file_.pairs.push_back(pair);
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
  std::istringstream stream_;
  int64_t line_ = 0;
  bool commas_ = false;
  Words words_;
  std::string found_;
  PairsFile file_;
  std::map<std::pair<std::string, int64_t>, int64_t> places_;
};

/// The images of a folder of identities, by identity and by name without ending.
class ImageIndex {
 public:
  explicit ImageIndex(fs::path folder) : folder_(std::move(folder)) {}

  bool has(const std::string& identity) { return !images_of(identity).empty() || is_folder(folder_ / identity); }

  /// An empty path when there is none. Of several endings the first of image_endings() counts.
  fs::path find(const NamedImage& image) {
    const auto& images = images_of(image.identity);
    const auto found = images.find(fs::path(image.name()).filename().string());
    return found == images.end() ? fs::path() : found->second;
  }

 private:
  using ByName = std::map<std::string, fs::path>;

  const ByName& images_of(const std::string& identity) {
    const auto [entry, is_new] = listed_.try_emplace(identity);
    if (is_new && is_folder(folder_ / identity)) {
      for (const fs::path& path : images_in(folder_ / identity)) {
        fs::path& kept = entry->second[path.stem().string()];
        if (kept.empty() || rank(path) < rank(kept)) kept = path;
      }
    }
    return entry->second;
  }

  static std::ptrdiff_t rank(const fs::path& path) {
    std::string ending = path.extension().string();
    std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
    return std::ranges::find(image_endings(), ending) - image_endings().begin();
  }

  fs::path folder_;
  std::map<std::string, ByName> listed_;
};

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
  const fs::path root = without_repeated_folder(folder);
  ImageIndex index(root);
  std::vector<fs::path> paths;
  Absent absent;
  for (const NamedImage& image : images) {
    paths.push_back(index.find(image));
    if (!paths.back().empty()) continue;
    const std::string named = c10::str(", which ", pairs_file, ", line ", image.line, ", names");
    if (!index.has(image.identity)) {
      absent.add(c10::str(root.string(), " has no folder ", image.identity, named));
    } else {
      absent.add(
          c10::str((root / image.name()).string(), ".jpg", named, ", is absent, and so are .jpeg, .png and .pgm"));
    }
  }
  absent.throw_if_any();
  return paths;
}

}  // namespace mma::examples
