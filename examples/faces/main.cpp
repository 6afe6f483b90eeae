// mma-faces: trains and verifies networks that tell faces apart.
#include <iostream>

#include "faces/command_line.hpp"
#include "support/process/environment.hpp"
#include "support/process/error.hpp"

namespace {

using namespace mma::examples;

int run(int argc, char** argv) {
  const std::optional<FacesArguments> arguments = read_faces_command_line(argc, argv);
  if (!arguments) return 0;
  if (const auto* training = std::get_if<FaceTrainArguments>(&*arguments)) {
    restart_for_training(argv);
    return train_faces(*training, *progress_on_stdout());
  }
  verify(std::get<VerifyArguments>(*arguments), std::cout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-faces", [&] { return run(argc, argv); });
}
