#include "reproduce/reproduction.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <set>
#include <thread>

#include "reproduce/children.hpp"
#include "reproduce/report.hpp"
#include "reproduce/report_plots.hpp"
#include "reproduce/time_left.hpp"
#include "support/files/atomic_file.hpp"
#include "support/files/folder_lock.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto pause_between_reports = std::chrono::seconds(20);  // drawing must not cost more than training
constexpr auto pause_between_looks = std::chrono::milliseconds(100);

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string joined_numbers(const std::vector<uint64_t>& numbers) {
  std::string text;
  for (const uint64_t number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return text;
}

/// A run may go on in its folder although no mma-reproduce does: begun by hand, or writing its last checkpoint after
/// its mma-reproduce was killed. False when interrupted.
bool wait_for_others(const Plan& plan, std::ostream& stream) {
  for (const PlannedRun& run : plan.runs) {
    bool said = false;
    while (const std::optional<std::string> holder = holder_of(run.folder)) {
      if (!said) stream << "waiting for " << *holder << " to end, which writes " << run.folder.string() << std::endl;
      said = true;
      if (interruption() != 0) return false;
      std::this_thread::sleep_for(pause_between_looks);
    }
  }
  return true;
}

class Reproduction {
 public:
  Reproduction(const ReproduceArguments& arguments, fs::path mma_train, std::ostream& stream);

  void print_plan();
  void check_before_training() const;
  int train();
  void write_reports(bool all);

 private:
  bool is_finished(size_t run) const { return standing_.states[run].status == RunStatus::finished; }
  double share_left(size_t run) const;
  std::optional<double> seconds_left() const;
  std::vector<std::string> command_of(size_t run) const;
  void start(size_t run);
  void end(const ChildEnd& end);
  void write_report(const Experiment& experiment);
  void write_joined_report() const;
  std::string command() const;
  int result() const;

  const ReproduceArguments& arguments_;
  fs::path mma_train_;
  std::ostream& stream_;
  Standing standing_;
  TimeLeft time_left_;
  FirstLayers first_layers_;
  std::deque<size_t> to_start_;
  std::set<size_t> running_;
  Children children_;
  std::vector<std::string> failures_;
  std::set<std::string> outdated_;               ///< experiments whose reports lack a run
  std::map<std::string, std::string> sections_;  ///< of the joined report, by experiment
  std::optional<Clock::time_point> reported_;
};

Reproduction::Reproduction(const ReproduceArguments& arguments, fs::path mma_train, std::ostream& stream)
    : arguments_(arguments),
      mma_train_(std::move(mma_train)),
      stream_(stream),
      standing_{make_plan(arguments.experiments, arguments.plan), arguments.plan.seeds, {}},
      children_([this](size_t run, const std::string& line) {
        stream_ << standing_.plan.runs[run].name << ": " << line << std::endl;
      }) {
  for (size_t i = 0; i < standing_.plan.runs.size(); ++i) {
    const PlannedRun& run = standing_.plan.runs[i];
    standing_.states.push_back(look_at(run.folder, run.settings));
    if (is_finished(i)) {
      time_left_.learn(run, standing_.states[i].seconds());
    } else {
      to_start_.push_back(i);
    }
  }
}

double Reproduction::share_left(size_t run) const {
  const auto done = static_cast<double>(standing_.states[run].history.size());
  return std::max(0.0, 1 - done / static_cast<double>(standing_.plan.runs[run].settings.epochs));
}

/// Of all runs that are not finished, so many at once.
std::optional<double> Reproduction::seconds_left() const {
  double sum = 0;
  for (size_t i = 0; i < standing_.plan.runs.size(); ++i) {
    if (is_finished(i)) continue;
    const std::optional<double> seconds = time_left_.seconds(standing_.plan.runs[i], share_left(i));
    if (!seconds) return std::nullopt;
    sum += *seconds;
  }
  return sum / static_cast<double>(arguments_.jobs);
}

std::vector<std::string> Reproduction::command_of(size_t run) const {
  const PlannedRun& planned = standing_.plan.runs[run];
  std::vector<std::string> words = {mma_train_.string()};
  const bool is_new = standing_.states[run].status == RunStatus::missing;
  const std::vector<std::string>& more = is_new ? planned.begin : planned.resume;
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void Reproduction::print_plan() {
  for (size_t i = 0; i < standing_.plan.runs.size(); ++i) {
    const PlannedRun& run = standing_.plan.runs[i];
    const RunState& state = standing_.states[i];
    std::string word = "finished";
    if (state.status == RunStatus::missing) word = "not run";
    if (state.status == RunStatus::begun) word = c10::str(state.history.size(), " of ", run.settings.epochs, " epochs");
    stream_ << run.name << ": " << word << " (" << joined(run.experiments) << ")\n";
    if (!is_finished(i)) stream_ << "  " << joined(command_of(i)) << '\n';
  }
  stream_ << c10::str(standing_.plan.runs.size(), " runs: ", standing_.count(RunStatus::finished), " finished, ",
                      standing_.count(RunStatus::begun), " begun, ", standing_.count(RunStatus::missing),
                      " not run; time left: ", duration_or_unknown(seconds_left()), "\n");
}

void Reproduction::check_before_training() const {
  const size_t there = standing_.plan.runs.size() - standing_.count(RunStatus::missing);
  if (there > 0 && !arguments_.resume) {
    throw UserError(c10::str(arguments_.plan.out.string(), " already holds ", there, " of the ",
                             standing_.plan.runs.size(),
                             " runs: go on with them by --resume, or choose another folder by --out"));
  }
  if (to_start_.empty()) return;
  if (!fs::exists(mma_train_)) throw UserError("mma-train is not where it should be, at " + mma_train_.string());
  for (const size_t i : to_start_) {
    const std::string& dataset = standing_.plan.runs[i].settings.dataset;
    const std::string& folder = arguments_.plan.data.at(dataset);
    if (!fs::is_directory(folder)) throw UserError("--" + dataset + " " + folder + ": there is no such folder");
  }
}

void Reproduction::start(size_t run) {
  const PlannedRun& planned = standing_.plan.runs[run];
  const size_t done = standing_.count(RunStatus::finished);
  stream_ << c10::str("run ", done + running_.size() + failures_.size() + 1, " of ", standing_.plan.runs.size(), ": ",
                      planned.name, standing_.states[run].status == RunStatus::begun ? ", resumed" : "", " (", done,
                      " finished, ", to_start_.size() + 1, " left beside ", running_.size(),
                      " running; time left: ", duration_or_unknown(seconds_left()), ")")
          << std::endl;
  children_.start(run, command_of(run), arguments_.jobs == 1);
  running_.insert(run);
}

void Reproduction::end(const ChildEnd& end) {
  const PlannedRun& run = standing_.plan.runs[end.id];
  running_.erase(end.id);
  const bool was_new = standing_.states[end.id].status == RunStatus::missing;
  standing_.states[end.id] = look_at(run.folder, run.settings);
  outdated_.insert(run.experiments.begin(), run.experiments.end());
  if (is_finished(end.id)) {
    time_left_.learn(run, was_new ? end.seconds : standing_.states[end.id].seconds());
  } else if (interruption() == 0) {
    failures_.push_back(c10::str(run.name, " (exit code ", end.exit_code, ")"));
    stream_ << run.name << " failed with exit code " << end.exit_code << "; the others go on" << std::endl;
  }
}

/// Of the program itself, as it was called; with --resume.
std::string Reproduction::command() const {
  std::vector<std::string> words = arguments_.words;
  words[0] = "mma-reproduce";
  if (!arguments_.resume) words.emplace_back("--resume");
  return joined(words);
}

int Reproduction::result() const {
  const std::vector<Experiment>& experiments = arguments_.experiments;
  const std::string report = experiments.size() > 1 ? "report" : experiments.front().name;
  stream_ << standing_.count(RunStatus::finished) << " of " << standing_.plan.runs.size()
          << " runs are finished; the report: " << (arguments_.plan.out / (report + ".md")).string() << std::endl;
  if (interruption() != 0) {
    stream_ << "interrupted; to go on: " << command() << std::endl;
    return 128 + interruption();
  }
  if (failures_.empty()) return 0;
  std::string names;
  for (const std::string& failure : failures_) names += (names.empty() ? "" : ", ") + failure;
  stream_ << "failed: " << names << "; to try them again: " << command() << std::endl;
  return 1;
}

int Reproduction::train() {
  bool told = false;
  while (!to_start_.empty() || children_.count() > 0) {
    if (interruption() != 0) {
      to_start_.clear();
      if (!told) children_.tell(interruption());
      told = true;
    }
    while (!to_start_.empty() && children_.count() < static_cast<size_t>(arguments_.jobs)) {
      const size_t run = to_start_.front();
      to_start_.pop_front();
      start(run);
    }
    if (const std::optional<ChildEnd> ended = children_.wait_a_little()) {
      end(*ended);
      write_reports(false);
    }
  }
  write_reports(true);
  return result();
}

constexpr const char* of_smoke =
    "**Smoke test**: tiny runs that show that the programs work. Their figures say nothing about the method.\n\n";

void Reproduction::write_report(const Experiment& experiment) {
  const ExperimentReport report = report_of(experiment, standing_, first_layers_);
  const fs::path folder = arguments_.plan.out;
  write_atomically(folder / (experiment.name + ".csv"), as_csv(report.csv));
  std::string text = report.markdown;
  const std::string picture = experiment.name + ".png";
  if (plotting_available() && plot_experiment(experiment, standing_, first_layers_, folder / picture)) {
    text += "\n![" + experiment.title + "](" + picture + ")\n";
  }
  const std::string head = experiment.title + "\n\n";
  const std::string smoke = arguments_.plan.scale == Scale::smoke ? of_smoke : "";
  write_atomically(folder / (experiment.name + ".md"), "# " + head + smoke + text + "\nCommand: `" + command() + "`\n");
  sections_[experiment.name] = "\n## " + head + text;
}

void Reproduction::write_joined_report() const {
  std::string text = "# Reproduction\n\n";
  if (arguments_.plan.scale == Scale::smoke) text += of_smoke;
  text += c10::str("Seeds: ", joined_numbers(standing_.seeds), ". ", standing_.count(RunStatus::finished), " of ",
                   standing_.plan.runs.size(), " runs are finished. Command: `", command(), "`\n");
  for (const Experiment& experiment : arguments_.experiments) text += sections_.at(experiment.name);
  write_atomically(arguments_.plan.out / "report.md", text);
}

/// Those that have changed, now and then; or all.
void Reproduction::write_reports(bool all) {
  if (!all && reported_ && Clock::now() - *reported_ < pause_between_reports) return;
  for (const Experiment& experiment : arguments_.experiments) {
    const bool is_old = outdated_.contains(experiment.name) || !sections_.contains(experiment.name);
    if (all || is_old) write_report(experiment);
  }
  if (arguments_.experiments.size() > 1) write_joined_report();
  outdated_.clear();
  reported_ = Clock::now();
}

}  // namespace

int reproduce(const ReproduceArguments& arguments, const fs::path& mma_train, std::ostream& stream) {
  {  // bad input is refused before a folder is made
    Reproduction before(arguments, mma_train, stream);
    if (arguments.dry_run) {
      before.print_plan();
      return 0;
    }
    if (!arguments.report_only) before.check_before_training();
  }
  const fs::path& out = arguments.plan.out;
  std::error_code error;
  fs::create_directories(out, error);
  if (error) throw UserError("--out " + out.string() + ": this folder cannot be made: " + error.message());
  watch_for_interruption();
  const FolderLock lock(out);
  const bool trains = !arguments.report_only;
  if (trains && !wait_for_others(make_plan(arguments.experiments, arguments.plan), stream)) {
    return 128 + interruption();
  }
  Reproduction reproduction(arguments, mma_train, stream);
  if (!trains) {
    reproduction.write_reports(true);
    return 0;
  }
  reproduction.check_before_training();
  return reproduction.train();
}

}  // namespace mma::examples
