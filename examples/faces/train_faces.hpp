// mma-faces train: ArcFace and ArcFace+ (Eq 15) on image folders, by the same runs as mma-train's.
#pragma once

#include "training/run/progress.hpp"
#include "training/settings/command_line.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// What was given beside what mma-train knows too.
struct FaceTrainArguments {
  Arguments common;
  FaceSettings faces;
  bool grey = false;
};

void add_face_train_options(CLI::App& app, FaceTrainArguments& arguments);

/// Once they are read. A resumed run keeps what it is: throws UserError that names the first option that would change
/// it.
void check_face_train_options(const CLI::App& app);

/// Checked. Throws UserError that names the flag.
Settings settings_of_new_face_run(const FaceTrainArguments& arguments);

/// As mma-train's train().
int train_faces(const FaceTrainArguments& arguments, Progress& progress);

}  // namespace mma::examples
