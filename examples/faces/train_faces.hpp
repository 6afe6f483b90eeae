// mma-faces train: ArcFace and ArcFace+ (Eq 15) on image folders, by the same runs as mma-train's.
#pragma once

#include "faces/face_settings.hpp"
#include "training/run/progress.hpp"
#include "training/settings/run_arguments.hpp"

namespace mma::examples {

/// What was given beside what mma-train knows too.
struct FaceTrainArguments {
  RunArguments common;
  Given faces = Given::object();  ///< of face_options()
};

void add_face_train_options(CLI::App& app, FaceTrainArguments& arguments);

/// Checked. Throws UserError that names the flag.
Settings settings_of_new_face_run(const FaceTrainArguments& arguments);

/// As mma-train's train().
int train_faces(const FaceTrainArguments& arguments, Progress& progress);

}  // namespace mma::examples
