#include "tammes/table1.hpp"

#include <c10/util/StringUtil.h>

#include <array>
#include <filesystem>
#include <iostream>
#include <map>
#include <mma/angles.hpp>
#include <mma/in_threads.hpp>
#include <mma/version.hpp>
#include <mutex>
#include <thread>

#include "support/files/atomic_file.hpp"
#include "support/files/file_contents.hpp"
#include "support/files/folder_lock.hpp"
#include "support/files/json.hpp"
#include "support/files/paths.hpp"
#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/process/machine.hpp"
#include "support/terminal/objectives.hpp"
#include "support/terminal/options.hpp"
#include "support/terminal/table.hpp"
#include "support/terminal/terminal.hpp"
#include "tammes/known_values.hpp"
#include "tammes/points_file.hpp"
#include "tammes/solve.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

/// The objectives of the table's columns in the paper's order.
struct Column {
  const char* objective;
  const char* title;
};
constexpr std::array<Column, 4> columns = {
    {{"mma", "MMA"}, {"cosine", "cosine"}, {"mhe-s2", "Riesz-Fisher s=2"}, {"mhe-s0", "logarithmic"}}};
constexpr const char* annealed = "annealed";

/// One row as the paper prints it, in degrees.
struct PaperRow {
  int64_t d, n;
  double optimal;
  std::array<double, columns.size()> found;
};
constexpr std::array<PaperRow, 10> paper_rows = {{{3, 4, 109.5, {109.5, 109.5, 109.4, 109.5}},
                                                  {3, 30, 38.6, {38.5, 0, 34.9, 35.4}},
                                                  {3, 130, 18.5, {17.6, 0, 12.6, 16.7}},
                                                  {4, 5, 104.5, {104.5, 104.5, 104.5, 104.5}},
                                                  {4, 30, 54.3, {54.0, 53.7, 49.3, 48.6}},
                                                  {4, 130, 33.4, {32.0, 32.1, 27.9, 27.2}},
                                                  {4, 600, 19.8, {19.3, 0, 15.9, 13.1}},
                                                  {5, 6, 101.5, {101.5, 101.5, 101.2, 101.5}},
                                                  {5, 30, 65.6, {65.5, 64.0, 57.1, 60.0}},
                                                  {5, 130, 43.8, {42.9, 42.5, 35.8, 35.6}}}};

/// One figure of the table.
struct Cell {
  double degrees = 0;
  double seconds = 0;
};

/// The finished cells in the folder, each kept as soon as it is there.
class Cells {
 public:
  explicit Cells(const fs::path& folder) : path_(folder / "table1-cells.json") {
    if (!is_there(path_)) return;
    try {
      cells_ = parse_ordered_json(contents_of(path_));
    } catch (const BadJson& error) {
      refuse(error.about("it"));
    }
    if (!cells_.is_object()) refuse("it is no object");
  }

  std::optional<Cell> find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = cells_.find(name);
    if (found == cells_.end()) return std::nullopt;
    try {
      return Cell{finite_number(*found, "degrees", 0, 360), finite_number(*found, "seconds", 0)};
    } catch (const BadJson& error) {
      refuse(error.about("'" + name + "'"));
    }
  }

  void keep(const std::string& name, const Cell& cell) {
    const std::lock_guard lock(mutex_);
    cells_[name] = {{"degrees", cell.degrees}, {"seconds", cell.seconds}};
    write_atomically(path_, [this](std::ostream& stream) { stream << cells_.dump(1) << '\n'; });
    std::cout << name << ": " << formatted("%.7f", cell.degrees) << " degrees, " << duration(cell.seconds) << std::endl;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw UserError(path_.string() + " is not what table1 wrote: " + why + "; remove it to begin anew");
  }

  fs::path path_;
  json cells_ = json::object();
  mutable std::mutex mutex_;
};

/// "seed 1", "seeds 1 to 3"
std::string seeds_of(const Table1Arguments& arguments) {
  const uint64_t last = arguments.first_seed + static_cast<uint64_t>(arguments.seeds) - 1;
  if (arguments.seeds == 1) return c10::str("seed ", last);
  return c10::str("seeds ", arguments.first_seed, " to ", last);
}

class Table {
 public:
  explicit Table(const Table1Arguments& arguments)
      : arguments_(arguments),
        threads_(arguments.threads > 0 ? arguments.threads : std::max<int64_t>(1, std::thread::hardware_concurrency())),
        cells_(arguments.out) {
    for (const PaperRow& row : paper_rows) {
      if (row.n <= arguments.largest) rows_.push_back(row);
    }
  }

  /// False when interrupted.
  bool compute() {
    for (const PaperRow& row : rows_) compute_annealed(row);
    std::vector<std::pair<PaperRow, const Column*>> tasks;
    for (const PaperRow& row : rows_) {
      for (const Column& column : columns) tasks.emplace_back(row, &column);
    }
    in_threads(static_cast<int64_t>(tasks.size()), threads_, [&](int64_t k) {
      const auto& [row, column] = tasks[static_cast<size_t>(k)];
      compute_objective(row, *column);
    });
    return interruption() == 0;
  }

  /// As lines of cells, the first of titles.
  std::vector<std::vector<std::string>> lines(bool with_words) const;
  double seconds_of(bool of_annealed) const;

 private:
  std::string name(const PaperRow& row, const std::string& column) const {
    const std::string effort =
        column == annealed ? "" : ", " + seeds_of(arguments_) + c10::str(", ", arguments_.iterations, " iterations");
    return c10::str("d=", row.d, " n=", row.n, " ", column, effort);
  }

  void compute_annealed(const PaperRow& row) {
    if (interruption() != 0 || cells_.find(name(row, annealed))) return;
    const auto start = std::chrono::steady_clock::now();
    TammesAnnealedOptions options = annealed_options(row.n, row.d);
    options.threads = threads_;
    const Solution solution = anneal_and_polish(options, name(row, annealed));
    if (interruption() != 0) return;
    const fs::path file = fs::path(arguments_.out) / c10::str("d", row.d, "-n", row.n, ".csv");
    write_points(file, solution.points, PointsFormat::csv);
    const double angle = minimal_angle(read_points(file));
    cells_.keep(name(row, annealed), {degrees(angle), seconds_since(start)});
  }

  void compute_objective(const PaperRow& row, const Column& column) {
    const std::string cell = name(row, column.objective);
    if (interruption() != 0 || cells_.find(cell)) return;
    const auto start = std::chrono::steady_clock::now();
    TammesPaperOptions options;
    options.points = row.n;
    options.dimension = row.d;
    options.starts = arguments_.seeds;
    options.seed = arguments_.first_seed;
    options.iterations = arguments_.iterations;
    const AnyObjective objective = objective_named(column.objective, "objective").make(options.seed);
    const TammesResult result = tammes_paper(objective, options, {{}, [] { return interruption() != 0; }});
    if (interruption() == 0) cells_.keep(cell, {degrees(result.minimal_angle), seconds_since(start)});
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const Table1Arguments& arguments_;
  int64_t threads_;
  Cells cells_;
  std::vector<PaperRow> rows_;
};

std::vector<std::vector<std::string>> Table::lines(bool with_words) const {
  std::vector<std::vector<std::string>> lines(1);
  lines[0] = {"d", "n", "optimal (paper)", "best known", "annealed (ours)"};
  for (const Column& column : columns) {
    lines[0].push_back(std::string(column.title) + " (paper)");
    lines[0].push_back(std::string(column.title) + " (ours)");
  }
  for (const PaperRow& row : rows_) {
    const std::optional<KnownValue> known = known_value(row.n, row.d);
    const int digits = known && known->resolution < 0.01 ? 7 : 1;
    std::vector<std::string> line = {std::to_string(row.d), std::to_string(row.n), formatted("%.1f", row.optimal),
                                     known ? formatted("%.*f", digits, known->degrees) : "",
                                     formatted("%.7f", cells_.find(name(row, annealed))->degrees)};
    for (size_t k = 0; k < columns.size(); ++k) {
      line.push_back(formatted("%.1f", row.found[k]));
      line.push_back(formatted(with_words ? "%.2f" : "%.7f", cells_.find(name(row, columns[k].objective))->degrees));
    }
    lines.push_back(line);
  }
  return lines;
}

double Table::seconds_of(bool of_annealed) const {
  double seconds = 0;
  for (const PaperRow& row : rows_) {
    if (of_annealed) {
      seconds += cells_.find(name(row, annealed))->seconds;
      continue;
    }
    for (const Column& column : columns) seconds += cells_.find(name(row, column.objective))->seconds;
  }
  return seconds;
}

/// Two lines of titles, because theirs are wider than the figures.
std::string as_text(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::vector<std::string>> parted(1);
  for (const std::string& title : lines[0]) {
    const size_t bracket = title.find(" (");
    parted[0].push_back(title.substr(0, bracket));
    if (parted.size() == 1) parted.emplace_back();
    parted[1].push_back(bracket == std::string::npos ? "" : title.substr(bracket + 2, title.size() - bracket - 3));
  }
  parted.insert(parted.end(), lines.begin() + 1, lines.end());
  return as_columns(parted);
}

std::string how_it_was_made(const Table1Arguments& arguments, const Table& table) {
  return c10::str(
      "Minimal angles in degrees. The objectives by the paper's method, best of ", seeds_of(arguments), ", ",
      arguments.iterations,
      " iterations; annealed: this project's solver, polished.\nThe paper's figures are those of its Table 1 "
      "(0: two points coincide).\nmma ",
      mma::version, ", mma-tammes table1 --seeds ", arguments.seeds, " --first-seed ", arguments.first_seed, " on ",
      machine_description("cpu"), ": annealed column ", duration(table.seconds_of(true)),
      " by the clock, the objectives together ", duration(table.seconds_of(false)), " on one core each.\n");
}

}  // namespace

int table1(const Table1Arguments& arguments) {
  require_within("--seeds", arguments.seeds, 1, 10'000);
  require_within("--iterations", arguments.iterations, 1, 1'000'000'000);
  require_within("--largest", arguments.largest, 4, 1'000'000'000);
  require_within("--threads", arguments.threads, 0, most_at_a_time);
  std::error_code error;
  fs::create_directories(arguments.out, error);
  if (error) throw UserError("--out " + arguments.out + ": this folder cannot be made: " + error.message());
  watch_for_interruption();
  const FolderLock lock(arguments.out);
  Table table(arguments);
  if (!table.compute()) {
    std::cout << "interrupted; the same command goes on from here\n";
    return 128 + interruption();
  }
  const fs::path folder = arguments.out;
  const std::string words = how_it_was_made(arguments, table);
  const std::string text = as_text(table.lines(true));
  write_atomically(folder / "table1.txt", text + "\n" + words);
  write_atomically(folder / "table1.csv", as_csv(table.lines(false)));
  write_atomically(folder / "table1.md", as_markdown(table.lines(true)) + "\n" + words);
  std::cout << '\n' << text << '\n' << words;
  return 0;
}

}  // namespace mma::examples
