#include "reproduce/gather.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>

#include "reproduce/gather_report.hpp"
#include "support/files/atomic_file.hpp"
#include "support/files/file_contents.hpp"
#include "support/files/json.hpp"
#include "support/files/paths.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

constexpr const char* gather_about =
    "Reports on runs of any machine: mean and deviation over seeds, differences to a baseline seed by seed with their\n"
    "95 % interval, how many seeds 0.3 points would need, accuracy against angle, and one sentence of verdict an arm.";

constexpr const char* gather_footer =
    "Of a run it takes config.json and metrics.csv, a few kB: weights, checkpoints and metrics.jsonl may be missing.\n"
    "Runs are of one comparison when all settings agree but regularizer, coefficient, scope and seed; where they were\n"
    "computed (data's folder, device, threads, order in memory) does not matter. Others are refused: gather each\n"
    "comparison by itself. A run that is not finished is left out, a seed is counted once, and a second result for it\n"
    "that differs is refused.\n"
    "\n"
    "Examples:\n"
    "  mma-reproduce gather benchmarks/results/vgg19-bn --out gathered\n"
    "  mma-reproduce gather runs/none-1 runs/none-2 runs/mma-1 runs/mma-2\n"
    "  mma-reproduce gather runs --baseline 'mma 0.03'\n"
    "\n"
    "Exit codes: 0 the report is written, 2 bad input.";

/// A word as a shell takes it.
std::string as_typed(const std::string& word) {
  const auto is_plain = [](unsigned char c) { return std::isalnum(c) != 0 || std::strchr("_-./=:,+@%", c) != nullptr; };
  if (!word.empty() && std::ranges::all_of(word, is_plain)) return word;
  std::string quoted = "'";
  for (const char character : word) quoted += character == '\'' ? "'\\''" : std::string(1, character);
  return quoted + "'";
}

std::string command_of(int argc, char** argv) {
  std::string command = "mma-reproduce";
  for (int i = 1; i < argc; ++i) command += " " + as_typed(argv[i]);
  return command;
}

/// Of an earlier gathering, which a new one replaces.
bool is_ours(const fs::path& json) {
  if (!is_there(json)) return false;
  try {
    const nlohmann::ordered_json read = parse_ordered_json(contents_of(json));
    return word(read, "program") == "mma-reproduce gather";
  } catch (const BadJson&) {
    return false;
  }
}

/// A report that another program wrote must not be lost.
void prepare(const std::string& out) {
  const fs::path folder = out;
  std::error_code error;
  for (const char* name : {"report.md", "report.json", "report.png"}) {
    if (fs::exists(folder / name, error) && !is_ours(folder / "report.json")) {
      throw UserError("--out " + out + ": its " + name +
                      " is not one that mma-reproduce gather wrote: another folder is needed");
    }
  }
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder)) throw UserError("--out " + out + ": this folder cannot be made");
}

void say_what_was_found(const Gathered& gathered, std::ostream& stream) {
  for (const ArmResults& arm : gathered.arms) {
    for (size_t i = 0; i < arm.runs.size(); ++i) {
      stream << "counted: " << gathered.found.runs[arm.runs[i]].folder.string() << " (" << arm.arm.name() << ", seed "
             << arm.seeds[i] << ")\n";
    }
  }
  for (const LeftOut& each : gathered.found.left_out) {
    stream << "left out: " << each.folder.string() << ": " << each.why << '\n';
  }
}

}  // namespace

std::optional<GatherArguments> read_gather_command_line(int argc, char** argv) {
  GatherArguments arguments;
  arguments.command = command_of(argc, argv);
  CLI::App app{gather_about, "mma-reproduce gather"};
  app.footer(gather_footer);
  app.get_formatter()->column_width(26);
  app.add_option("DIR", arguments.folders, "A run's folder, or one that holds such at any depth; also several")
      ->required()
      ->type_name("");
  app.add_option("--out", arguments.out, "Where report.md, report.json and report.png go (default: gathered)")
      ->type_name("DIR");
  app.add_option("--baseline", arguments.baseline,
                 "What the others are compared with: a regularizer, or with its coefficient\n"
                 "(and scope) 'mma 0.07 hidden' (default: none)")
      ->type_name("NAME");
  if (argc <= 2) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  }
  if (!parsed(app, argc - 1, argv + 1)) return std::nullopt;
  return arguments;
}

void gather(const GatherArguments& arguments, std::ostream& stream) {
  Gathered gathered = {gather_runs(arguments.folders), {}};
  gathered.arms = arms_of(gathered.found.runs, arguments.baseline);
  prepare(arguments.out);
  say_what_was_found(gathered, stream);
  const fs::path folder = arguments.out;
  // JSON first: it marks the folder as a gathering's.
  const auto replaced = nlohmann::json::error_handler_t::replace;  // bytes of a folder's name that are no UTF-8
  write_atomically(folder / "report.json", json_of(gathered, arguments.command).dump(1, ' ', false, replaced) + "\n");
  const bool drawn = plotting_available();
  if (drawn) write_png(folder / "report.png", panels_of(gathered), 3);
  if (!drawn) {
    fs::remove(folder / "report.png");  // an earlier gathering's would show other runs
    stream << "no picture: gnuplot is not installed (package gnuplot-nox)\n";
  }
  write_atomically(folder / "report.md", markdown_of(gathered, arguments.command, drawn ? "report.png" : ""));
  for (const std::string& verdict : verdicts_on(gathered)) stream << verdict << '\n';
  stream << "report: " << (folder / "report.md").string() << '\n';
}

}  // namespace mma::examples
