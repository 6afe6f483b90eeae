#include "reproduce/command_line.hpp"

#include <c10/util/StringUtil.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <set>
#include <thread>

#include "mma/version.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"

namespace mma::examples {
namespace {

constexpr const char* about =
    "Repeats tables and figures of the paper: trains what is missing by mma-train, each run once whatever number of\n"
    "tables want it, and writes a report (Markdown, CSV, PNG) of our figures beside the paper's.\n"
    "mma-reproduce gather DIR... reports on runs that are there already, of any machine: mma-reproduce gather --help.";

constexpr const char* footer =
    "Examples:\n"
    "  mma-reproduce table3 --cifar100 data/cifar-100-binary --device cuda --precision bf16 --cuda-graph\n"
    "  mma-reproduce table3 --resume --cifar100 data/cifar-100-binary --device cuda --precision bf16 --cuda-graph\n"
    "  mma-reproduce table2 --dry-run --seeds 123\n"
    "  mma-reproduce all --scale smoke --jobs 2\n"
    "  mma-reproduce study --jobs 2 --out study\n"
    "  mma-reproduce gather benchmarks/results/vgg19-bn\n"
    "\n"
    "Ctrl-C stops at the next step; the same command with --resume goes on as if it had never stopped.\n"
    "Exit codes: 0 everything is there, 1 a run failed (the others went on), 2 bad input, 128 + signal.";

struct AsTyped {
  std::vector<std::string> names;
  std::string scale = "full";
  std::optional<std::vector<std::string>> seeds;
  std::optional<std::string> out;
};

uint64_t seed_of(const std::string& text) {
  const bool digits = !text.empty() && text.size() < 19 &&
                      std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!digits) throw UserError("--seeds " + text + ": whole numbers not below 0 are needed, such as 123,223");
  return std::stoull(text);
}

std::vector<uint64_t> seeds_of(const AsTyped& given, Scale scale) {
  if (!given.seeds)
    return scale == Scale::smoke ? std::vector<uint64_t>{123, 223} : std::vector<uint64_t>{123, 223, 323, 423, 523};
  std::vector<uint64_t> seeds;
  for (const std::string& text : *given.seeds) {
    seeds.push_back(seed_of(text));
    if (std::ranges::count(seeds, seeds.back()) > 1) throw UserError("--seeds: " + text + " is there twice");
  }
  return seeds;
}

void add_what_to_do(CLI::App& app, AsTyped& given, ReproduceArguments& arguments) {
  app.add_option("WHAT", given.names,
                 "Of " + experiment_names() + " (the paper's: none of the studies, not strong); also several")
      ->required()
      ->type_name("");
  app.add_option("--scale", given.scale,
                 "full (default): the paper's protocol; smoke: the same program, tiny: 3 steps of\n"
                 "8 images, 2 epochs, 64 test images, to see that all works")
      ->type_name("NAME")
      ->check(CLI::IsMember({"full", "smoke"}));
  app.add_option("--epochs", arguments.plan.epochs,
                 "Shorter or longer runs: milestones and warm-up move to the same fractions")
      ->type_name("N");
  app.add_option("--seeds", given.seeds, "Default: 123,223,323,423,523; at smoke 123,223")
      ->type_name("N,N")
      ->delimiter(',');
  app.add_option("--out", given.out, "Where runs and reports go (default: reproduction; at smoke reproduction-smoke)")
      ->type_name("DIR");
  app.add_flag("--resume", arguments.resume, "Go on with what is in --out: finished runs stay, begun ones go on");
  app.add_flag("--dry-run", arguments.dry_run, "Only print the runs, what is there of them, and their commands");
  app.add_flag("--report-only", arguments.report_only, "Train nothing: only write the report of what is there");
}

void add_machine(CLI::App& app, ReproduceArguments& arguments, std::map<std::string, std::string>& data) {
  PlanOptions& plan = arguments.plan;
  app.add_option("--cifar100", data["cifar100"],
                 "CIFAR-100's folder (default: where make data-cifar100 puts it,\n"
                 "data/cifar-100-binary)")
      ->type_name("DIR");
  app.add_option("--tiny-imagenet", data["tiny-imagenet"], "TinyImageNet's (default: data/tiny-imagenet-200)")
      ->type_name("DIR");
  app.add_option("--jobs", arguments.jobs, "So many runs at once (default: 1)")->type_name("N");
  app.add_option("--threads", plan.threads,
                 "CPU threads of each run (default: the cores, shared by the jobs; study: 1)")
      ->type_name("N");
  app.add_option("--device", plan.device, "As in mma-train: cpu (default), cuda")->type_name("NAME");
  app.add_option("--precision", plan.precision, "As in mma-train: float32 (default), bf16")->type_name("NAME");
  app.add_flag("--cuda-graph", plan.cuda_graph,
               "As in mma-train; here not the default, so that all rows are timed alike");
  CLI::Option* channels_last = app.add_flag_callback(
      "--channels-last", [&plan] { plan.channels_last = true; }, "As in mma-train");
  app.add_flag_callback(
         "--no-channels-last", [&plan] { plan.channels_last = false; }, "As in mma-train")
      ->excludes(channels_last);
}

void check(const ReproduceArguments& arguments) {
  require_within("--jobs", arguments.jobs, 1, most_at_a_time);
  require_within("--epochs", arguments.plan.epochs.value_or(1), 1, 1'000'000);
  require_within("--threads", arguments.plan.threads.value_or(1), 1, most_at_a_time);
  if (arguments.dry_run && arguments.report_only) throw UserError("--dry-run and --report-only exclude each other");
}

}  // namespace

std::optional<ReproduceArguments> read_reproduce_command_line(int argc, char** argv) {
  ReproduceArguments arguments;
  AsTyped given;
  arguments.words.assign(argv, argv + argc);
  arguments.plan.data = {{"cifar100", "data/cifar-100-binary"}, {"tiny-imagenet", "data/tiny-imagenet-200"}};
  CLI::App app{about, "mma-reproduce"};
  app.footer(footer);
  app.get_formatter()->column_width(26);
  app.set_version_flag("--version", std::string(version));
  add_what_to_do(app, given, arguments);
  add_machine(app, arguments, arguments.plan.data);
  if (argc <= 1) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  }
  if (!parsed(app, argc, argv)) return std::nullopt;
  check(arguments);
  if (std::ranges::count(given.names, "gather") > 0) {
    throw UserError("gather is a command of its own and comes first: mma-reproduce gather DIR...");
  }
  arguments.experiments = experiments_named(given.names);
  PlanOptions& plan = arguments.plan;
  plan.scale = given.scale == "smoke" ? Scale::smoke : Scale::full;
  plan.seeds = seeds_of(given, plan.scale);
  plan.out = given.out.value_or(plan.scale == Scale::smoke ? "reproduction-smoke" : "reproduction");
  const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());
  plan.threads_of_new_runs = std::max<int64_t>(1, cores / arguments.jobs);
  return arguments;
}

}  // namespace mma::examples
