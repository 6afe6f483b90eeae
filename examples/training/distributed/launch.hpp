// What a launcher (torchrun, or Slurm and mpirun through two lines of shell) says of a process: which of how many it is
// and where they meet, in the environment variables of PyTorch's env:// rendezvous.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mma::examples {

struct Launch {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t local_rank = 0;  ///< among the processes of its machine
  std::string address;     ///< where the store is: of rank 0, or of torchrun's agent
  int64_t port = 0;
  int64_t restarts = 0;           ///< how often torchrun has started all of them anew
  bool has_agents_store = false;  ///< torchrun's agent keeps the store, which then outlives the processes
};

/// Empty where RANK or WORLD_SIZE is not set: the program was started by itself. Throws UserError that names a variable
/// which is missing beside them, or which no process can have.
std::optional<Launch> launch_of_environment();

/// On a machine with several GPUs each process is to see its own alone, the one of its local rank among those that are
/// visible. To be called before CUDA is.
void take_own_gpu(const Launch& launch);

}  // namespace mma::examples
