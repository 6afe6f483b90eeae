#include "faces/identities.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <iostream>
#include <set>

#include "support/files/paths.hpp"
#include "support/images/image_decoding.hpp"
#include "support/images/image_file.hpp"
#include "support/images/image_folder.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr const char* layout = "expected folders <identity>/<image>.jpg, .jpeg, .png or .pgm";

struct Identity {
  std::string name;
  std::vector<fs::path> images;
};

/// What decoding leaves of the images of all identities laid end to end.
struct Decoded {
  at::Tensor images;         ///< uint8 [N, channels, size, size]
  std::vector<bool> usable;  ///< [N]
  std::vector<std::string> skipped;
};

/// All folders with an image in them.
std::vector<Identity> identities_of(const fs::path& folder) {
  std::vector<Identity> identities;
  for (const fs::path& path : visible_entries(without_repeated_folder(folder))) {
    if (!is_folder(path)) continue;
    Identity identity{path.filename().string(), images_in(path)};
    if (!identity.images.empty()) identities.push_back(std::move(identity));
  }
  if (identities.empty()) throw UserError(c10::str("the folder ", folder, " holds no identity: ", layout));
  std::ranges::sort(identities, {}, &Identity::name);
  return identities;
}

/// How many images an identity needs, one of them for training.
int64_t images_needed(const IdentityOptions& options) {
  return std::max({int64_t{1}, options.minimum_images, options.hold_out_last + 1});
}

int64_t remove_excluded(std::vector<Identity>& identities, const IdentityOptions& options) {
  const std::set<std::string> excluded(options.exclude.begin(), options.exclude.end());
  return static_cast<int64_t>(
      std::erase_if(identities, [&](const Identity& identity) { return excluded.contains(identity.name); }));
}

int64_t remove_small(std::vector<Identity>& identities, const IdentityOptions& options) {
  return static_cast<int64_t>(std::erase_if(
      identities, [&](const Identity& identity) { return std::ssize(identity.images) < images_needed(options); }));
}

void check_enough(size_t left, const fs::path& folder, const IdentityOptions& options, const Identities& result) {
  if (left >= 2) return;
  std::string why;
  if (result.excluded > 0) why.append(c10::str(" (", result.excluded, " are excluded)"));
  if (result.too_few > 0) {
    why.append(c10::str(" (", result.too_few, " have fewer than ", images_needed(options), " images)"));
  }
  throw UserError(c10::str("the folder ", folder, " leaves ", left, left == 1 ? " identity" : " identities", why,
                           ": expected at least 2"));
}

Decoded decoded(const std::vector<Identity>& identities, const fs::path& folder, const IdentityOptions& options) {
  std::vector<fs::path> files;
  for (const Identity& identity : identities) files.insert(files.end(), identity.images.begin(), identity.images.end());
  const auto& [channels, size] = options.image;
  Decoded result{at::empty({std::ssize(files), channels, size, size}, at::kByte), {}, {}};
  std::vector<std::string> errors(files.size());
  decode_images(std::ssize(files), folder.string(), [&](int64_t index) {
    const auto place = static_cast<size_t>(index);
    try {
      result.images[index].copy_(fitted(read_image(files[place], options.image.channels), options.image.size));
    } catch (const UserError& error) {
      if (!options.skip_bad) throw;
      errors[place] = error.what();
    }
  });
  for (std::string& error : errors) {
    result.usable.push_back(error.empty());
    if (!error.empty()) result.skipped.push_back(std::move(error));
  }
  return result;
}

/// Without the images that cannot be used, and the identities that then have too few.
void drop_unusable(std::vector<Identity>& identities, Decoded& decoded, const IdentityOptions& options) {
  std::vector<int64_t> kept;
  int64_t index = 0;
  for (Identity& identity : identities) {
    std::vector<fs::path> images;
    std::vector<int64_t> places;
    for (const fs::path& path : identity.images) {
      if (decoded.usable[static_cast<size_t>(index)]) {
        images.push_back(path);
        places.push_back(index);
      }
      ++index;
    }
    identity.images = std::move(images);
    if (std::ssize(identity.images) >= images_needed(options)) kept.insert(kept.end(), places.begin(), places.end());
  }
  decoded.images = decoded.images.index_select(0, at::tensor(kept, at::kLong));
}

void say_skipped(const std::vector<std::string>& skipped, size_t images) {
  constexpr size_t most = 20;
  for (size_t i = 0; i < std::min(most, skipped.size()); ++i) std::cerr << "skipped: " << skipped[i] << '\n';
  if (skipped.size() > most) std::cerr << "skipped: " << skipped.size() - most << " more\n";
  std::cerr << skipped.size() << " of " << images << " images are skipped" << std::endl;
}

bool is_held_out(int64_t place, int64_t count, const IdentityOptions& options) {
  return place >= count - options.hold_out_last ||
         (options.hold_out_every > 0 && (place + 1) % options.hold_out_every == 0);
}

void split(const std::vector<Identity>& identities, const at::Tensor& images, const IdentityOptions& options,
           Identities& result) {
  std::vector<int64_t> places[2], labels[2];
  int64_t index = 0;
  for (const Identity& identity : identities) {
    const auto count = std::ssize(identity.images);
    for (int64_t place = 0; place < count; ++place, ++index) {
      const size_t part = is_held_out(place, count, options) ? 1 : 0;
      places[part].push_back(index);
      labels[part].push_back(std::ssize(result.names));
    }
    result.names.push_back(identity.name);
  }
  const auto chosen = [&](size_t part) -> LabelledImages {
    const bool all = std::ssize(places[part]) == images.size(0);  // no copy of a large set
    return {all ? images : images.index_select(0, at::tensor(places[part], at::kLong)),
            at::tensor(labels[part], at::kLong)};
  };
  result.dataset.train = chosen(0);
  result.dataset.test = chosen(1);
}

}  // namespace

Identities read_identities(const fs::path& folder, const IdentityOptions& options) {
  TORCH_CHECK(options.hold_out_every != 1 && (options.hold_out_every == 0 || options.hold_out_last == 0),
              "hold_out_every is ", options.hold_out_every, ", hold_out_last ", options.hold_out_last,
              "; expected one of them, every second image or fewer.");
  Identities result;
  std::vector<Identity> identities = identities_of(folder);
  result.excluded = remove_excluded(identities, options);
  result.too_few = remove_small(identities, options);
  check_enough(identities.size(), folder, options, result);
  Decoded images = decoded(identities, folder, options);
  if (!images.skipped.empty()) {
    say_skipped(images.skipped, images.usable.size());
    drop_unusable(identities, images, options);
    result.too_few += remove_small(identities, options);
    check_enough(identities.size(), folder, options, result);
  }
  split(identities, images.images, options, result);
  const std::vector<double> half(static_cast<size_t>(options.image.channels), 0.5);
  result.dataset.name = folder.filename().string();
  result.dataset.classes = std::ssize(result.names);
  result.dataset.mean = result.dataset.deviation = half;
  result.skipped = std::move(images.skipped);
  return result;
}

}  // namespace mma::examples
