// What a face network's training has beside what every training has: its options, a row each, and their values.
#pragma once

#include "training/settings/option_row.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

struct FaceSettings {
  int64_t channels = 3;                     ///< 1: grey
  int64_t embedding = 0;                    ///< dimension of a face's feature; 0: the network's own
  double angle_factor = 1;                  ///< m1 of cos(m1 * theta + m2) - m3
  double angular_margin = 0.5;              ///< m2, in radians
  double cosine_margin = 0;                 ///< m3
  double scale = 64;                        ///< s
  int64_t minimum_images = 2;               ///< identities with fewer are left out
  int64_t hold_out = 0;                     ///< the last so many images of each identity are for testing
  std::string exclude_pairs = {};           ///< a pairs.txt whose identities are left out; empty: none
  std::vector<int64_t> exclude_folds = {};  ///< only those of these folds, from 1; empty: all of it
  bool skip_bad = false;                    ///< go on without images that cannot be read
};

const OptionRows<FaceSettings>& face_options();

/// The sections of the help beside the common ones.
inline constexpr const char* head_section =
    "The head: scale * (cos(angle-factor * theta + margin) - cosine-margin) for the label";

/// Those that a run's settings carry. Throws BadJson when they are no face network's.
FaceSettings face_settings(const Settings& settings);
void set_face_settings(const FaceSettings& faces, Settings& settings);

/// Throws UserError for values that no run can have.
void check(const FaceSettings& faces);

}  // namespace mma::examples
