// What mma::DistributedMinimalAngle costs a process: the peak of its memory, its work and the seconds of a step (value
// and gradient) for one matrix whose rows lie on 1, 2 and 4 processes, beside mma::minimal_angle_loss in one. Prints
// Markdown.
//   bench-distributed [ROWS [DIMENSION]]
#include <ATen/Parallel.h>
#include <sys/wait.h>
#include <unistd.h>
#include <mma/distributed.hpp>
#include <mma/mma.hpp>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>

#include "memory.hpp"

namespace {

using namespace mma::benchmarks;

/// What is computed of a shard.
using Term = std::function<at::Tensor(const at::Tensor&)>;

mma::Processes make_processes(const std::string& store, int rank, int count) {
  const auto options = c10d::ProcessGroupGloo::Options::create();
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::FileStore>(store, count), rank, count,
                                                     options);
}

/// Of a process, or the largest of several.
struct Cost {
  Peak peak;
  double processor_seconds = 0;
};

/// Of a process whose shard has so many rows.
Cost cost_of(const Term& term, int64_t rows, int64_t dimension, int64_t seed) {
  const auto shard = [&](int64_t n) {
    auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
    return at::randn({n, dimension}, generator, at::TensorOptions(at::kFloat)).requires_grad_();
  };
  term(shard(300)).backward();  // what a first call leaves
  const PeakMemory peak;
  const at::Tensor weight = shard(rows);
  const std::clock_t before = std::clock();
  const double milliseconds = milliseconds_of([&] { term(weight).backward(); });
  const double worked = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  return {{peak.mebibytes(), milliseconds}, worked};
}

/// The largest of the processes, each in a copy of this one. Without a group the library's one-process function.
Cost worst_of(int count, int threads, bool distributed, int64_t rows, int64_t dimension) {
  const std::string store = "/tmp/mma-bench-distributed-" + std::to_string(getpid());
  int ends[2];
  if (pipe(ends) != 0) return {};
  for (int rank = 0; rank < count; ++rank) {
    if (fork() != 0) continue;
    at::set_num_threads(threads);
    Term term = [](const at::Tensor& weight) { return mma::minimal_angle_loss(weight); };
    if (distributed) term = mma::DistributedMinimalAngle(make_processes(store, rank, count));
    const Cost cost = cost_of(term, rows / count + (rank < rows % count ? 1 : 0), dimension, rank + 1);
    _exit(write(ends[1], &cost, sizeof cost) == sizeof cost ? 0 : 1);
  }
  close(ends[1]);
  Cost worst{{0, 0}, 0}, cost;
  int answers = 0;
  for (; read(ends[0], &cost, sizeof cost) == sizeof cost; ++answers) {
    worst = {{std::max(worst.peak.mebibytes, cost.peak.mebibytes),
              std::max(worst.peak.milliseconds, cost.peak.milliseconds)},
             std::max(worst.processor_seconds, cost.processor_seconds)};
  }
  close(ends[0]);
  while (wait(nullptr) > 0) {
  }
  unlink(store.c_str());
  return answers == count ? worst : Cost{};
}

void print_row(const char* what, int count, int threads, bool distributed, int64_t rows, int64_t dimension) {
  const Cost worst = worst_of(count, threads, distributed, rows, dimension);
  const double shard = static_cast<double>((rows + count - 1) / count * dimension) * 4 / 1024 / 1024;
  std::printf("| %s | %d | %d | %.1f | %.1f | %.1f | %.1f |\n", what, count, threads, shard, worst.peak.mebibytes,
              worst.processor_seconds, worst.peak.milliseconds / 1000);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rows = argc > 1 ? std::atoll(argv[1]) : 100000, dimension = argc > 2 ? std::atoll(argv[2]) : 64;
  std::printf("%lld rows of dimension %lld, float32\n\n", static_cast<long long>(rows),
              static_cast<long long>(dimension));
  std::printf(
      "| | processes | threads of each | shard, MiB | peak with shard and gradient, MiB | processor seconds of a "
      "process "
      "| seconds a step |\n");
  std::printf("|---|---:|---:|---:|---:|---:|---:|\n");
  print_row("`minimal_angle_loss`", 1, 1, false, rows, dimension);
  print_row("`minimal_angle_loss`", 1, 2, false, rows, dimension);
  for (const int count : {1, 2, 4}) print_row("`DistributedMinimalAngle`", count, 1, true, rows, dimension);
}
