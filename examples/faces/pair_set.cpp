#include "faces/pair_set.hpp"

#include <c10/util/StringUtil.h>

#include <memory>
#include <utility>

#include "faces/bin_file.hpp"
#include "faces/networks.hpp"
#include "support/images/image_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {

PairSet pair_set_of_folder(const std::filesystem::path& pairs, const std::filesystem::path& images) {
  PairsFile file = read_pairs_file(pairs);
  PairSet set;
  set.name = pairs.stem().string();
  set.ends = fold_boundaries(std::ssize(file.pairs), file.folds);
  set.images = std::ssize(file.images);
  for (const NamedImage& image : file.images) set.image_names.push_back(image.name());
  set.pairs = std::move(file.pairs);
  if (images.empty()) {
    set.describe = [names = set.image_names](int64_t image) { return names[static_cast<size_t>(image)]; };
    return set;
  }
  auto paths = std::make_shared<std::vector<std::filesystem::path>>(find_images(file.images, images, pairs.string()));
  set.image = [paths](int64_t image, int64_t channels) {
    return fitted(read_image((*paths)[static_cast<size_t>(image)], channels), face_size);
  };
  set.describe = [paths](int64_t image) { return (*paths)[static_cast<size_t>(image)].string(); };
  return set;
}

PairSet pair_set_of_bin(const std::filesystem::path& path, int64_t folds) {
  auto file = std::make_shared<BinFile>(path);
  PairSet set;
  set.name = path.stem().string();
  set.pairs = file->pairs();
  if (std::ssize(set.pairs) < folds) {
    throw UserError(c10::str(path.string(), ": holds ", set.pairs.size(), " pairs; expected at least one in each of ",
                             folds, " folds"));
  }
  set.ends = fold_boundaries(std::ssize(set.pairs), folds);
  set.images = std::ssize(file->images());
  set.image = [file](int64_t image, int64_t channels) {
    const std::string_view bytes = file->images()[static_cast<size_t>(image)];
    return fitted(decode_image(bytes, channels, file->name_of(image)), face_size);
  };
  set.describe = [file](int64_t image) { return file->name_of(image); };
  return set;
}

}  // namespace mma::examples
