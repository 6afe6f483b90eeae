#include "training/distributed/launch.hpp"

#include <c10/util/StringUtil.h>
#include <stdlib.h>

#include <charconv>
#include <sstream>
#include <vector>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr int64_t most_processes = 1'000'000;
constexpr int64_t last_port = 65535;

std::optional<std::string> variable(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

int64_t whole_number_of(const char* name, const std::string& text, int64_t lowest, int64_t highest) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest || value > highest) {
    throw UserError(c10::str("the launcher's environment has ", name, "=", text, "; a whole number from ", lowest,
                             " to ", highest, " is needed"));
  }
  return value;
}

std::string needed(const char* name) {
  const auto value = variable(name);
  if (!value) {
    throw UserError(c10::str("the launcher's environment has RANK and WORLD_SIZE, but no ", name,
                             ": start the processes by torchrun, or set it as docs/scaling.md shows"));
  }
  return *value;
}

int64_t number_or(int64_t otherwise, const char* name, int64_t lowest, int64_t highest) {
  const auto value = variable(name);
  return value ? whole_number_of(name, *value, lowest, highest) : otherwise;
}

}  // namespace

std::optional<Launch> launch_of_environment() {
  const auto rank = variable("RANK"), world_size = variable("WORLD_SIZE");
  if (!rank || !world_size) return std::nullopt;
  Launch launch;
  launch.world_size = whole_number_of("WORLD_SIZE", *world_size, 1, most_processes);
  launch.rank = whole_number_of("RANK", *rank, 0, launch.world_size - 1);
  launch.local_rank = number_or(0, "LOCAL_RANK", 0, launch.world_size - 1);
  launch.restarts = number_or(0, "TORCHELASTIC_RESTART_COUNT", 0, most_processes);
  launch.has_agents_store = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (launch.world_size == 1 && launch.restarts == 0 && !variable("MASTER_ADDR")) return launch;
  launch.address = needed("MASTER_ADDR");
  launch.port = whole_number_of("MASTER_PORT", needed("MASTER_PORT"), 1, last_port);
  return launch;
}

void take_own_gpu(const Launch& launch) {
  std::vector<std::string> visible;
  if (const auto listed = variable("CUDA_VISIBLE_DEVICES")) {
    std::istringstream stream(*listed);
    for (std::string each; std::getline(stream, each, ',');) visible.push_back(each);
    if (visible.size() == 1) return;  // the launcher has chosen, as Slurm does with --gpus-per-task
  }
  if (!visible.empty() && launch.local_rank >= std::ssize(visible)) {
    throw UserError(c10::str("LOCAL_RANK=", launch.local_rank, " has no GPU: CUDA_VISIBLE_DEVICES lists ",
                             visible.size(), "; one for each process of a machine is needed"));
  }
  const std::string own =
      visible.empty() ? std::to_string(launch.local_rank) : visible[static_cast<size_t>(launch.local_rank)];
  ::setenv("CUDA_VISIBLE_DEVICES", own.c_str(), /*overwrite=*/1);
}

}  // namespace mma::examples
