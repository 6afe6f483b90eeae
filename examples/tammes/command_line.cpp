#include "tammes/command_line.hpp"

#include <CLI/CLI.hpp>
#include <mma/version.hpp>

#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "support/terminal/options.hpp"
#include "tammes/points_file.hpp"

namespace mma::examples {
namespace {

constexpr const char* about =
    "Spreads n points over the sphere in d dimensions so that the smallest angle between two of them is as large as\n"
    "possible: the Tammes problem.";

constexpr const char* footer =
    "Examples:\n"
    "  mma-tammes solve -d 3 -n 30 --out points.csv --plot points.png\n"
    "  mma-tammes table1 --out table1\n"
    "  mma-tammes gradients --plot figure2.png\n"
    "\n"
    "mma-tammes solve --help says the rest of solve, and so on.";

constexpr const char* solve_footer =
    "Without a --method: the exact solution where there is one (d = 1, d = 2, n <= 2 d), else the annealed method, "
    "which\n"
    "minimises a power energy by L-BFGS while its exponent doubles from 8 to 1e6, from many starts, moves points of "
    "the\n"
    "best one about (as often again), and polishes the end on its contact graph. Beyond n * n * d = 2e7 it does less "
    "by\n"
    "itself: one start, few exponents, no polish, for a quick even spread of up to many thousands of points.\n"
    "\n"
    "Points are read and written as one point a row: csv, txt (blanks between numbers) or npy (NumPy); read also as "
    "one\n"
    "coordinate a line, with -d or in a file named as Sloane's pack.3.6.txt. Ctrl-C ends the search and gives the best "
    "so\n"
    "far.\n"
    "\n"
    "Examples:\n"
    "  mma-tammes solve -d 3 -n 30 --out points.csv --plot points.png\n"
    "  mma-tammes solve -d 5 -n 130 --restarts 200 --out best.npy\n"
    "  mma-tammes solve --start best.npy --seed 7 --out better.npy\n"
    "  mma-tammes solve --start pack.3.6.txt\n"
    "  mma-tammes solve -d 4 -n 30 --method paper --objective cosine";

constexpr const char* table1_footer =
    "Takes some minutes for the annealed column and some more for the objectives. Stopped by Ctrl-C, the same command\n"
    "goes on with the cells that are missing.\n"
    "\n"
    "Example:\n"
    "  mma-tammes table1 --seeds 3 --out table1";

constexpr const char* gradients_footer =
    "Example:\n"
    "  mma-tammes gradients --plot figure2.png --out figure2.csv";

/// CLI11 would let a negative number wrap around.
std::string not_negative(const std::string& text) {
  return text.starts_with('-') ? text + ", but a whole number not below 0 is needed" : std::string();
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void check_known(const std::string& flag, const std::string& name, const std::vector<std::string>& known) {
  if (!name.empty() && std::find(known.begin(), known.end(), name) == known.end()) {
    throw UserError(flag + " " + name + ": one of " + joined(known) + " is needed");
  }
}

void add_solve(CLI::App& app, SolveArguments& arguments) {
  app.footer(solve_footer);
  app.add_option("-d,--dimension", arguments.dimension, "Dimension of the space")->type_name("D");
  app.add_option("-n,--points", arguments.points, "Number of points")->type_name("N");
  app.add_option("--method", arguments.method, "annealed (default), or paper: SGD, 10,000 iterations")
      ->type_name("NAME");
  app.add_option("--objective", arguments.objective, "With --method paper: " + objective_names())->type_name("NAME");
  app.add_option("--restarts", arguments.restarts,
                 "Random starts, and for the annealed method as many hops from the best\n(default: paper 3, annealed 4 "
                 "to 64, fewer for more points)")
      ->type_name("R");
  app.add_option("--seed", arguments.seed, "Seed of the random numbers (default: 1)")
      ->type_name("S")
      ->check(not_negative);
  app.add_option("--threads", arguments.threads,
                 "CPU threads (default: all cores, paper 1); the annealed result does not depend on them")
      ->type_name("T");
  app.add_option("--device", arguments.device, "With --method paper: cpu (default), cuda")->type_name("NAME");
  app.add_option("--start", arguments.start, "Improve the points in this file; the result is never worse")
      ->type_name("FILE");
  app.add_option("--out", arguments.out, "Write the points into this file")->type_name("FILE");
  app.add_option("--format", arguments.format, "Of --out: csv, npy, txt (default: by its ending, else csv)")
      ->type_name("NAME");
  app.add_option("--plot", arguments.plot, "Draw points in 3 dimensions on a sphere, their contacts joined")
      ->type_name("PNG");
}

void add_table1(CLI::App& app, Table1Arguments& arguments) {
  app.footer(table1_footer);
  app.add_option("--seeds", arguments.seeds, "Seeds of each objective, of which the best counts (default: 3)")
      ->type_name("K");
  app.add_option("--first-seed", arguments.first_seed, "The first of them (default: 1)")
      ->type_name("S")
      ->check(not_negative);
  app.add_option("--iterations", arguments.iterations, "Of the paper's method (default: 10000)")->type_name("N");
  app.add_option("--largest", arguments.largest, "Leave out the rows with more points (default: 600)")->type_name("N");
  app.add_option("--threads", arguments.threads, "CPU threads (default: all cores)")->type_name("T");
  app.add_option("--out", arguments.out, "Folder of the table and its points (default: table1)")->type_name("DIR");
}

void add_gradients(CLI::App& app, GradientsArguments& arguments) {
  app.footer(gradients_footer);
  app.add_option("--plot", arguments.plot, "Draw the curves")->type_name("PNG");
  app.add_option("--out", arguments.out, "Write them as CSV")->type_name("FILE");
}

}  // namespace

std::optional<TammesArguments> read_tammes_command_line(int argc, char** argv) {
  SolveArguments solve;
  Table1Arguments table1;
  GradientsArguments gradients;
  CLI::App app{about, "mma-tammes"};
  app.footer(footer);
  app.get_formatter()->column_width(26);
  app.set_version_flag("--version", std::string(version));
  app.require_subcommand(0, 1);
  CLI::App* solve_app = app.add_subcommand("solve", "Find points, or improve given ones");
  CLI::App* table1_app = app.add_subcommand("table1", "Reproduce the paper's Table 1");
  CLI::App* gradients_app = app.add_subcommand("gradients", "Draw the paper's Figure 2, the objectives' gradients");
  add_solve(*solve_app, solve);
  add_table1(*table1_app, table1);
  add_gradients(*gradients_app, gradients);
  if (!parsed(app, argc, argv)) return std::nullopt;
  if (solve_app->parsed()) {
    check_known("--method", solve.method, {"annealed", "paper"});
    check_known("--device", solve.device, {"cpu", "cuda"});
    check_known("--format", solve.format, points_format_names());
    if (!solve.objective.empty()) objective_named(solve.objective, "--objective");
    return solve;
  }
  if (table1_app->parsed()) return table1;
  if (gradients_app->parsed()) return gradients;
  std::cout << app.help();
  return std::nullopt;
}

}  // namespace mma::examples
