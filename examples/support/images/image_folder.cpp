#include "support/images/image_folder.hpp"

#include <c10/util/StringUtil.h>
#include <string.h>

#include <algorithm>
#include <cctype>

#include "support/files/paths.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

void add_images_below(const fs::path& folder, int levels, std::vector<fs::path>& images) {
  if (levels == 0) throw UserError(c10::str("the folder ", folder, " lies too deep; does a link lead back to it?"));
  for (const fs::path& path : visible_entries(folder)) {
    if (is_folder(path)) {
      add_images_below(path, levels - 1, images);
    } else if (is_image_name(path)) {
      images.push_back(path);
    }
  }
}

}  // namespace

const std::vector<std::string>& image_endings() {
  static const std::vector<std::string> endings = {".jpg", ".jpeg", ".png", ".pgm"};
  return endings;
}

bool is_image_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return !path.filename().string().starts_with('.') &&
         std::ranges::find(image_endings(), ending) != image_endings().end();
}

std::vector<fs::path> visible_entries(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!entry->path().filename().string().starts_with('.')) found.push_back(entry->path());
  }
  if (error) throw UserError(c10::str("the folder ", folder, " cannot be read: ", error.message()));
  std::ranges::sort(found, [](const fs::path& a, const fs::path& b) { return strverscmp(a.c_str(), b.c_str()) < 0; });
  return found;
}

std::vector<fs::path> images_in(const fs::path& folder) {
  std::vector<fs::path> images = visible_entries(folder);
  std::erase_if(images, [](const fs::path& path) { return !is_image_name(path); });
  return images;
}

std::vector<fs::path> images_below(const fs::path& folder) {
  constexpr int most_levels = 16;
  std::vector<fs::path> images;
  add_images_below(folder, most_levels, images);
  std::ranges::sort(images);
  return images;
}

fs::path without_repeated_folder(const fs::path& folder) {
  std::error_code error;
  const fs::path inner = folder / fs::weakly_canonical(folder, error).filename();
  if (error || !is_folder(inner)) return folder;
  const std::vector<fs::path> entries = visible_entries(inner);
  const bool holds_folders = std::ranges::any_of(entries, is_folder);
  return holds_folders ? inner : folder;
}

}  // namespace mma::examples
