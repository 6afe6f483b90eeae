// The options of mma-faces and its subcommands.
#pragma once

#include <optional>
#include <variant>

#include "faces/train_faces.hpp"
#include "faces/verify.hpp"

namespace mma::examples {

using FacesArguments = std::variant<VerifyArguments, FaceTrainArguments>;

/// std::nullopt when help or version was asked for and printed; UserError for options that make no sense.
std::optional<FacesArguments> read_faces_command_line(int argc, char** argv);

}  // namespace mma::examples
