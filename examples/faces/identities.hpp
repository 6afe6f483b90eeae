// Identities from image folders, <identity>/<image>.jpg|jpeg|png|pgm in any case, whole in memory as a data set whose
// classes are the identities.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "faces/networks.hpp"
#include "training/data/dataset.hpp"

namespace mma::examples {

struct IdentityOptions {
  ImageShape image = {3, face_size};      ///< 1 channel: grey
  int64_t minimum_images = 1;             ///< identities with fewer are left out
  std::vector<std::string> exclude = {};  ///< identities by name; a name that is not there is no fault
  int64_t hold_out_last = 0;              ///< the last so many images of each identity are the test split
  int64_t hold_out_every = 0;             ///< or every so many-th image
  bool skip_bad = false;  ///< unreadable images are left out, named on standard error, instead of an error
};

struct Identities {
  Dataset dataset;                   ///< mean and deviation 0.5, as is usual for faces: pixels from -1 to 1
  std::vector<std::string> names;    ///< by label: sorted
  int64_t excluded = 0;              ///< identities that were there, by name
  int64_t too_few = 0;               ///< identities with fewer images than asked for
  std::vector<std::string> skipped;  ///< a sentence for each image that was left out
};

/// Reads all images, by several threads, each brought to the size by image_file.hpp's fitted(). Images are in the order
/// of their names, numbers in them by value (2.pgm before 10.pgm). A folder lfw/lfw is read for lfw. An identity keeps
/// at least one image for training. Throws UserError for a folder that cannot be read or leaves fewer than two
/// identities, and for the first image that cannot be decoded.
Identities read_identities(const std::filesystem::path& folder, const IdentityOptions& options);

}  // namespace mma::examples
