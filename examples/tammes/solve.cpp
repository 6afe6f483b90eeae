#include "tammes/solve.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>
#include <torch/cuda.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <mma/angles.hpp>
#include <thread>

#include "support/files/paths.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/terminal/objectives.hpp"
#include "support/terminal/options.hpp"
#include "support/terminal/terminal.hpp"
#include "tammes/known_values.hpp"
#include "tammes/points_file.hpp"
#include "tammes/polish.hpp"
#include "tammes/progress.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t most_numbers_polished = 3000;  // beyond it a linear program takes minutes
constexpr int64_t paper_starts = 3;
constexpr double contact_degrees = 1e-6;
constexpr double contact_degrees_unpolished = 1e-2;

/// What a method came to, and how.
struct Outcome {
  at::Tensor points;
  std::string how;
  bool polished = false;
};

/// Before minutes of work, not after them.
void check_writable(const std::string& flag, const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  require(is_folder(folder) && ::access(folder.c_str(), W_OK) == 0,
          flag + " " + path.string() + ": its folder does not exist or cannot be written to");
  require(!is_folder(path), flag + " " + path.string() + ": this is a folder, a file is needed");
}

void check(const SolveArguments& arguments) {
  const bool paper = arguments.method == "paper";
  require(arguments.device == "cpu" || torch::cuda::is_available(),
          "--device cuda: this machine has no NVIDIA GPU that LibTorch can use, or LibTorch was built without CUDA");
  require(arguments.device == "cpu" || paper,
          "--device cuda belongs to --method paper; the annealed method runs on the CPU");
  require(arguments.objective.empty() || paper,
          "--objective belongs to --method paper; the annealed method has its own");
  require_within("--restarts", arguments.restarts.value_or(1), 1, 1'000'000);
  require_within("--threads", arguments.threads.value_or(1), 1, most_at_a_time);
  if (!arguments.out.empty()) check_writable("--out", arguments.out);
  require(arguments.format.empty() || !arguments.out.empty(), "--format belongs to --out");
  if (!arguments.plot.empty()) {
    check_writable("--plot", arguments.plot);
    require(plotting_available(), "--plot: the program gnuplot is not installed (package gnuplot-nox)");
  }
}

struct Problem {
  int64_t n, d;
  at::Tensor start;  ///< undefined without --start
};

Problem problem_of(const SolveArguments& arguments) {
  Problem problem{arguments.points.value_or(0), arguments.dimension.value_or(0), {}};
  if (!arguments.start.empty()) {
    problem.start = read_points(arguments.start, {arguments.points, arguments.dimension});
    problem.n = problem.start.size(0);
    problem.d = problem.start.size(1);
    require(arguments.points.value_or(problem.n) == problem.n && arguments.dimension.value_or(problem.d) == problem.d,
            c10::str(arguments.start, " holds ", problem.n, " points in ", problem.d,
                     " dimensions, which -n or -d contradicts"));
  } else {
    require(arguments.points && arguments.dimension, "-d and -n are needed, or --start with a file of points");
  }
  require(problem.n >= 2, c10::str("-n ", problem.n, ": at least 2 points are needed"));
  require(problem.d >= 1, c10::str("-d ", problem.d, ": at least 1 dimension is needed"));
  require(problem.n <= (int64_t{1} << 26) / problem.d,
          c10::str("-d ", problem.d, " -n ", problem.n, ": at most 67 million numbers are possible"));
  if (arguments.method == "paper" && arguments.restarts) {  // all in one batch
    require_within("--restarts", *arguments.restarts, 1, (int64_t{1} << 26) / (problem.n * problem.d));
  }
  require(arguments.plot.empty() || problem.d == 3,
          c10::str("--plot draws points in 3 dimensions, not in ", problem.d));
  return problem;
}

int64_t threads_of(const SolveArguments& arguments) {
  return arguments.threads.value_or(std::max<int64_t>(1, std::thread::hardware_concurrency()));
}

Outcome by_paper(const SolveArguments& arguments, const Problem& problem) {
  const NamedObjective& objective =
      objective_named(arguments.objective.empty() ? "mma" : arguments.objective, "--objective");
  TammesPaperOptions options;
  options.points = problem.n;
  options.dimension = problem.d;
  options.start = problem.start;
  options.starts = problem.start.defined() ? 1 : arguments.restarts.value_or(paper_starts);
  options.seed = arguments.seed;
  options.device = at::Device(arguments.device);
  at::set_num_threads(static_cast<int>(arguments.threads.value_or(1)));
  SolverProgress progress("paper");
  const TammesResult result = tammes_paper(objective.make(arguments.seed), options, progress.callbacks());
  return {result.points, c10::str("the paper's method with the objective ", objective.name, ", ", options.starts,
                                  options.starts == 1 ? " start, " : " starts, ", duration(progress.seconds()))};
}

Outcome by_annealing(const SolveArguments& arguments, const Problem& problem) {
  TammesAnnealedOptions options = annealed_options(problem.n, problem.d);
  if (arguments.restarts) {
    options = TammesAnnealedOptions{};
    options.points = problem.n;
    options.dimension = problem.d;
    options.starts = options.hops = *arguments.restarts;
  }
  options.start = problem.start;
  options.seed = arguments.seed;
  options.threads = threads_of(arguments);
  const SolverProgress clock("");
  const Solution solution = anneal_and_polish(options, "annealed");
  std::string how = options.hops == 0 ? "annealed quickly" : "annealed";
  how += problem.start.defined() ? " from " + arguments.start
                                 : c10::str(", ", options.starts, options.starts == 1 ? " start" : " starts");
  if (options.hops > 0) how += c10::str(", ", options.hops, options.hops == 1 ? " hop" : " hops");
  if (solution.polish_rounds > 0) how += c10::str(", polished in ", solution.polish_rounds, " rounds");
  return {solution.points, how + ", " + duration(clock.seconds()), solution.polish_rounds > 0};
}

Outcome outcome_of(const SolveArguments& arguments, const Problem& problem) {
  if (arguments.method == "paper") return by_paper(arguments, problem);
  const auto exact = problem.start.defined() ? std::nullopt : exact_solution(problem.n, problem.d);
  if (exact) return {exact->points, "without a search: " + exact->reason, true};
  return by_annealing(arguments, problem);
}

/// Pairs whose angle is the minimal one within the tolerance, in radians. A row at a time: memory O(n).
std::vector<std::pair<size_t, size_t>> contacts(const at::Tensor& points, double angle, double tolerance) {
  const at::Tensor rows = unit_rows(points);
  const auto* data = rows.const_data_ptr<double>();
  const int64_t n = rows.size(0), d = rows.size(1);
  const double limit = std::cos(std::min(angle + tolerance, std::numbers::pi));
  std::vector<std::pair<size_t, size_t>> pairs;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) {
      double cosine = 0;
      for (int64_t k = 0; k < d; ++k) cosine += data[i * d + k] * data[j * d + k];
      if (cosine >= limit - 1e-15) pairs.emplace_back(i, j);
    }
  }
  return pairs;
}

void print_references(int64_t n, int64_t d, double angle) {
  const std::optional<KnownValue> known = known_value(n, d);
  if (known) {
    const double gap = degrees(angle) - known->degrees;
    const char* verdict = gap > known->resolution && !known->proven ? "exceeded"
                          : gap > -known->resolution - 1e-9         ? "reached"
                                                                    : "not reached";
    std::cout << (known->proven ? "optimal         " : "best known      ")
              << c10::str(std::setprecision(10), known->degrees) << " degrees: " << verdict << " (" << known->source
              << ")\n";
  }
  if (!known || !known->proven) {
    const UpperBound bound = upper_bound(n, d);
    std::cout << "upper bound     " << formatted("%.7f", bound.degrees) << " degrees (" << bound.reason << ")\n";
  }
}

void draw(const SolveArguments& arguments, const at::Tensor& points, double angle,
          const std::vector<std::pair<size_t, size_t>>& edges) {
  Sphere sphere;
  sphere.title = c10::str(points.size(0), " points, minimal angle ") + formatted("%.5f°", degrees(angle)) +
                 c10::str(", ", edges.size(), edges.size() == 1 ? " contact" : " contacts");
  const at::Tensor rows = unit_rows(points);
  const auto* data = rows.const_data_ptr<double>();
  for (int64_t i = 0; i < rows.size(0); ++i) sphere.points.push_back({data[3 * i], data[3 * i + 1], data[3 * i + 2]});
  sphere.edges = edges;
  write_sphere_png(arguments.plot, sphere);
  std::cout << "picture         " << arguments.plot << '\n';
}

}  // namespace

TammesAnnealedOptions annealed_options(int64_t points, int64_t dimension) {
  const double work = static_cast<double>(points) * static_cast<double>(points) * static_cast<double>(dimension);
  if (work > 2e7) return quick_tammes_options(points, dimension);
  TammesAnnealedOptions options;
  options.points = points;
  options.dimension = dimension;
  options.starts = options.hops = std::clamp<int64_t>(static_cast<int64_t>(1e7 / work), 4, 64);
  return options;
}

Solution anneal_and_polish(const TammesAnnealedOptions& options, const std::string& label) {
  SolverProgress progress(label);
  const TammesResult result = tammes_annealed(options, progress.callbacks());
  Solution solution{result.points, result.minimal_angle, 0};
  if (options.points * options.dimension > most_numbers_polished || interruption() != 0) return solution;
  const Polished polished = polish(result.points, [] { return interruption() != 0; });
  const double angle = minimal_angle(polished.points);
  if (angle >= solution.minimal_angle) solution = {polished.points, angle, polished.rounds};
  return solution;
}

int solve(const SolveArguments& arguments) {
  check(arguments);
  const Problem problem = problem_of(arguments);
  watch_for_interruption();
  const Outcome outcome = outcome_of(arguments, problem);

  at::Tensor points = outcome.points;
  std::string file;
  if (!arguments.out.empty()) {  // what is printed from here on is what the file says
    write_points(arguments.out, points, points_format(arguments.format, arguments.out));
    points = read_points(arguments.out, {problem.n, problem.d});
    file = "file            " + arguments.out + ", from which the angle was measured\n";
  }
  const double angle = minimal_angle(points);
  const double tolerance = outcome.polished ? contact_degrees : contact_degrees_unpolished;
  const auto edges = contacts(points, angle, tolerance * std::numbers::pi / 180);
  std::cout << problem.n << " points in " << problem.d << (problem.d == 1 ? " dimension" : " dimensions") << ", "
            << outcome.how << '\n';
  if (interruption() != 0) std::cout << "interrupted: this is the best so far\n";
  std::cout << "minimal angle   " << formatted("%.10f", degrees(angle)) << " degrees\n";
  print_references(problem.n, problem.d, angle);
  std::cout << "contacts        " << edges.size() << (edges.size() == 1 ? " pair" : " pairs") << " within " << tolerance
            << " degrees of it\n"
            << file;
  if (!arguments.plot.empty()) draw(arguments, points, angle, edges);
  if (!std::cout.flush()) throw UserError("cannot write to the standard output");
  return interruption() == 0 ? 0 : 128 + interruption();
}

}  // namespace mma::examples
