#include "faces/face_settings.hpp"

#include <numbers>

#include "support/process/error.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {
namespace {

using Row = OptionRow<FaceSettings>;

constexpr const char* key_of_settings = "faces";
constexpr int64_t many = 1'000'000'000;
constexpr int64_t widest_embedding = 1 << 16;

const Range above_zero = {.lowest = 0, .without_lowest = true, .expected = "a number above 0 is needed"};
const Range not_below_zero = {.lowest = 0, .expected = "a number not below 0 is needed"};

void add_trained(OptionRows<FaceSettings>& rows) {
  const auto add = [&](Row row) {
    row.section = section::trained;
    rows.push_back(std::move(row));
  };
  add({.name = "--grey",
       .help = "Images of one channel (default: colour, also of grey files)",
       .key = "channels",
       .member = &FaceSettings::channels,
       .raised = 1});
  add({.name = "--embedding",
       .type = "N",
       .help = "Dimension of a face's feature (default: 512, ir-small's 128)",
       .key = "embedding",
       .member = &FaceSettings::embedding,
       .allowed = Range::at_least(1, widest_embedding),
       .zero_is_none = true});
  add({.name = "--min-images",
       .type = "N",
       .help = "Leave out identities with fewer images (default: 2)",
       .key = "minimum_images",
       .member = &FaceSettings::minimum_images,
       .allowed = Range::at_least(1, many)});
  add({.name = "--hold-out",
       .type = "N",
       .help = "Test on the last N images of each identity: top-1 among the identities (default: 0)",
       .key = "hold_out",
       .member = &FaceSettings::hold_out,
       .allowed = not_below_zero});
  add({.name = "--exclude-pairs",
       .type = "FILE",
       .help = "Leave out everybody whom this pairs.txt names",
       .key = "exclude_pairs",
       .member = &FaceSettings::exclude_pairs});
  add({.name = "--exclude-folds",
       .type = "N,N",
       .help = "Only those of its folds N,N",
       .key = "exclude_folds",
       .member = &FaceSettings::exclude_folds});
  add({.name = "--skip-bad",
       .help = "Name images that cannot be read and go on without them",
       .key = "skip_bad",
       .member = &FaceSettings::skip_bad});
}

void add_head(OptionRows<FaceSettings>& rows) {
  const auto add = [&](Row row) {
    row.section = head_section;
    rows.push_back(std::move(row));
  };
  add({.name = "--margin",
       .type = "X",
       .help = "ArcFace's, in radians (default: 0.5)",
       .key = "angular_margin",
       .member = &FaceSettings::angular_margin,
       .allowed = Range{.lowest = 0,
                        .highest = std::numbers::pi,
                        .without_highest = true,
                        .expected = "radians from 0 to below 3.14 are needed"}});
  add({.name = "--angle-factor",
       .type = "X",
       .help = "SphereFace's (default: 1)",
       .key = "angle_factor",
       .member = &FaceSettings::angle_factor,
       .allowed = above_zero});
  add({.name = "--cosine-margin",
       .type = "X",
       .help = "CosFace's (default: 0)",
       .key = "cosine_margin",
       .member = &FaceSettings::cosine_margin,
       .allowed = not_below_zero});
  add({.name = "--scale",
       .type = "X",
       .help = "Length of the embeddings (default: 64)",
       .key = "scale",
       .member = &FaceSettings::scale,
       .allowed = above_zero});
}

}  // namespace

const OptionRows<FaceSettings>& face_options() {
  static const OptionRows<FaceSettings> rows = [] {
    OptionRows<FaceSettings> all;
    add_trained(all);
    add_head(all);
    return all;
  }();
  return rows;
}

FaceSettings face_settings(const Settings& settings) {
  FaceSettings faces;
  const auto own = settings.of_program.find(key_of_settings);
  read_json(face_options(), own == settings.of_program.end() ? Given::object() : own->second, faces);
  return faces;
}

void set_face_settings(const FaceSettings& faces, Settings& settings) {
  settings.of_program[key_of_settings] = to_json(face_options(), faces);
}

void check(const FaceSettings& faces) {
  check_values(face_options(), faces);
  if (faces.channels != 1 && faces.channels != 3) {
    throw UserError(c10::str("images of ", faces.channels, " channels: 1 (--grey) or 3 are needed"));
  }
  if (!faces.exclude_folds.empty() && faces.exclude_pairs.empty()) {
    throw UserError("--exclude-folds belongs to --exclude-pairs, the pairs.txt that has these folds");
  }
}

}  // namespace mma::examples
