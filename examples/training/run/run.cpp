#include "training/run/run.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <csignal>
#include <ctime>
#include <fstream>
#include <future>
#include <iostream>
#include <nlohmann/json.hpp>

#include "mma/version.hpp"
#include "support/files/atomic_file.hpp"
#include "support/files/folder_lock.hpp"
#include "support/files/json.hpp"
#include "support/files/paths.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/process/machine.hpp"
#include "training/distributed/processes.hpp"
#include "training/models/weights.hpp"
#include "training/run/build_info.hpp"
#include "training/run/device.hpp"
#include "training/run/run_plots.hpp"
#include "training/run/training.hpp"
#include "training/settings/schedule.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int64_t steps_between_looks = 20;  // where reading the loss makes a GPU wait, or other processes

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string percent(double value) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << value << " %";
  return text.str();
}

/// One run between its start or resumption and its end.
class Run {
 public:
  Run(RunOrder order, RunRecord record, Training& training, Progress& progress, Processes& processes);

  /// What a new run leaves before its first step: killed from now on, it can be resumed.
  void write_beginning();
  void say_what_is_trained();
  int go_on();

 private:
  void write_config();
  bool train_epoch();
  bool finish_epoch();
  void step();
  void look_at_losses();
  void show();
  /// The network as it is now, once it is known to be sound.
  TensorFile snapshot();
  void save();
  void write_beside_the_next_epoch();
  /// Waits for what is being written; throws what went wrong there.
  void finish_writing();
  void write_metrics(const std::vector<EpochMetrics>& history) const;
  void write_events(const std::vector<EpochMetrics>& history) const;
  void append_event(const std::vector<EpochMetrics>& history) const;
  int stop();
  int end();

  const Settings& settings() const { return record_.settings; }
  /// Whether a run of several processes is to stop, which all of them know at the same step.
  bool is_interrupted();
  /// What several processes train alike is written down by one.
  bool writes() const { return processes_.is_first(); }
  bool looks_each_step() const { return settings().device == "cpu" && !processes_.are_several(); }
  bool regularized() const { return settings().regularizer != "none"; }
  int64_t steps_done() const { return record_.position.epoch * training_.steps_per_epoch() + record_.position.step; }
  /// The seconds of the running epoch, also those before a resumption.
  void count_seconds();
  std::string place() const;

  RunOrder order_;
  RunFolder folder_;
  RunRecord record_;
  Training& training_;
  Progress& progress_;
  Processes& processes_;
  LossSums sums_;
  Clock::time_point counted_until_ = Clock::now();
  Clock::time_point started_ = Clock::now();
  int64_t steps_at_start_ = 0;
  int64_t images_here_ = 0;  ///< trained on since the epoch began or was resumed
  Clock::time_point images_since_ = Clock::now();
  std::future<void> writing_;  ///< last, so that it ends before what it writes
};

Run::Run(RunOrder order, RunRecord record, Training& training, Progress& progress, Processes& processes)
    : order_(std::move(order)),
      folder_(order_.folder),
      record_(std::move(record)),
      training_(training),
      progress_(progress),
      processes_(processes),
      sums_{record_.position.loss_sum, record_.position.regularization_sum},
      steps_at_start_(steps_done()) {
  training_.set_sums(sums_);
  training_.set_counts({record_.position.skipped_steps, record_.position.communication_seconds});
}

void Run::write_beginning() {
  save();
  if (writes()) write_config();
  processes_.begin();
}

void Run::write_config() {
  write_atomically(folder_.config(), [&](std::ostream& stream) {
    nlohmann::ordered_json config;
    config["program"] = record_.program;
    config["version"] = version;
    config["git_commit"] = git_commit;
    config["libtorch"] = libtorch_version;
    config["machine"] = machine_description(settings().device);
    config["command_line"] = order_.words;
    config["train_images"] = record_.train_images;
    config["test_images"] = training_.dataset().test.labels.size(0);
    config["classes"] = record_.classes;
    config["parameters"] = training_.parameter_count();
    config["processes"] = processes_.count();
    config["settings"] = to_json(settings());
    stream << config.dump(2) << '\n';
  });
}

void Run::say_what_is_trained() {
  const Settings& s = settings();
  progress_.say(c10::str(s.model, " (", training_.parameter_count(), " parameters) on ", s.dataset, ": ",
                         record_.train_images, " training and ", training_.dataset().test.labels.size(0),
                         " test images, batches of ", s.batch, ", seed ", s.seed, ", ", s.device, ", ", s.threads,
                         s.threads == 1 ? " thread" : " threads",
                         processes_.are_several() ? c10::str(" in each of ", processes_.count(), " processes") : ""));
  progress_.say((regularized()
                     ? c10::str("regularizer ", s.regularizer, " on ", s.scope, " layers, coefficient ", s.coefficient)
                     : "no regularization") +
                ", into " + folder_.path.string());
}

void Run::count_seconds() {
  record_.position.seconds += seconds_since(counted_until_);
  counted_until_ = Clock::now();
}

std::string Run::place() const {
  return c10::str("epoch ", record_.position.epoch + 1, ", step ", record_.position.step, " of ",
                  training_.steps_per_epoch());
}

TensorFile Run::snapshot() {
  count_seconds();
  look_at_losses();
  const StepCounts counts = training_.counts();
  record_.position.skipped_steps = counts.skipped;
  record_.position.communication_seconds = counts.communication_seconds;
  training_.share_buffers();
  if (!training_.weights_are_finite()) {
    throw UserError(c10::str("the weights are no longer finite in ", place(), ": a smaller --lr may help (",
                             folder_.checkpoint().string(), " keeps the last good state)"));
  }
  TensorFile file;
  file.tensors = training_.state();
  return file;
}

void Run::save() {
  const TensorFile file = snapshot();
  if (!writes()) return;
  finish_writing();
  write_checkpoint(folder_.checkpoint(), record_, file);
}

/// The files of a finished epoch. The tensors are copied: the next epoch changes them in place.
void Run::write_beside_the_next_epoch() {
  TensorFile file = snapshot();
  if (!writes()) return;
  if (settings().device == "cpu") {
    for (auto& [name, tensor] : file.tensors) tensor = tensor.clone();
  }
  finish_writing();
  writing_ = std::async(std::launch::async, [this, record = record_, file = std::move(file)] {
    write_checkpoint(folder_.checkpoint(), record, file);
    write_metrics(record.history);
    append_event(record.history);
  });
}

void Run::finish_writing() {
  if (writing_.valid()) writing_.get();
}

void Run::look_at_losses() {
  sums_ = training_.sums();
  if (!sums_.finite()) {
    throw UserError(c10::str("the loss is not finite in ", place(), ": a smaller --lr or --coefficient may help (",
                             folder_.checkpoint().string(), " keeps the last good state)"));
  }
  record_.position.loss_sum = sums_.cross_entropy;
  record_.position.regularization_sum = sums_.regularization;
}

void Run::show() {
  const Position& position = record_.position;
  const auto steps = static_cast<double>(position.step);
  const int64_t steps_per_epoch = training_.steps_per_epoch();
  const int64_t left = settings().epochs * steps_per_epoch - steps_done();
  StepProgress shown;
  shown.epoch = position.epoch + 1;
  shown.epochs = settings().epochs;
  shown.step = position.step;
  shown.steps = steps_per_epoch;
  shown.images_per_second = static_cast<double>(images_here_) / seconds_since(images_since_);
  const int64_t images = std::min(position.step * settings().batch, record_.train_images);
  shown.loss = sums_.cross_entropy / static_cast<double>(images);
  if (regularized()) shown.regularization_loss = sums_.regularization / steps;
  shown.seconds_left =
      seconds_since(started_) / static_cast<double>(steps_done() - steps_at_start_) * static_cast<double>(left);
  progress_.step(shown);
}

void Run::step() {
  Position& position = record_.position;
  training_.step(position.epoch, position.step);
  images_here_ += training_.images_in_step(position.step);
  ++position.step;
  if (looks_each_step() || position.step % steps_between_looks == 0) {
    look_at_losses();
    show();
  }
  const int64_t every = settings().checkpoint_steps;
  if (every > 0 && position.step % every == 0) save();
}

bool Run::is_interrupted() { return processes_.any_said(interruption() != 0); }

/// False when interrupted.
bool Run::train_epoch() {
  images_here_ = 0;
  images_since_ = Clock::now();
  while (record_.position.step < training_.steps_per_epoch()) {
    if (is_interrupted()) return false;
    step();
  }
  return true;
}

/// Measures the finished epoch and writes it down. False when interrupted before.
bool Run::finish_epoch() {
  const auto stopped = [] { return interruption() != 0; };
  look_at_losses();
  count_seconds();
  EpochMetrics metrics;
  metrics.seconds_per_step = record_.position.seconds / static_cast<double>(training_.steps_per_epoch());
  const StepCounts counts = training_.counts();
  metrics.skipped_steps = counts.skipped;
  metrics.communication_share = std::min(1.0, counts.communication_seconds / record_.position.seconds);
  const std::optional<Hits> hits = training_.evaluate(stopped);
  if (!hits) return false;
  Position& position = record_.position;
  metrics.epoch = position.epoch + 1;
  metrics.learning_rate = learning_rate_at(settings(), position.epoch, 0, training_.steps_per_epoch());
  metrics.loss = sums_.cross_entropy / static_cast<double>(record_.train_images);
  metrics.regularization_loss = sums_.regularization / static_cast<double>(training_.steps_per_epoch());
  metrics.top1 = hits->top1_percent();
  metrics.top5 = hits->top5_percent();
  if (writes()) metrics.angles = training_.angles();
  count_seconds();
  metrics.seconds = position.seconds;
  metrics.peak_memory_mib = training_.peak_memory_mib();
  metrics.finished_at = static_cast<double>(std::time(nullptr));
  record_.history.push_back(metrics);
  position = Position{.epoch = position.epoch + 1};
  training_.set_sums({});
  training_.set_counts({});
  write_beside_the_next_epoch();
  progress_.epoch(metrics, settings().epochs, regularized());
  return true;
}

void Run::write_metrics(const std::vector<EpochMetrics>& history) const {
  write_atomically(folder_.metrics_csv(), [&](std::ostream& stream) { write_metrics_csv(stream, history); });
  write_atomically(folder_.metrics_jsonl(), [&](std::ostream& stream) { write_metrics_jsonl(stream, history); });
}

void Run::write_events(const std::vector<EpochMetrics>& history) const {
  write_atomically(folder_.events(), [&](std::ostream& stream) { write_event_file(stream, history); });
}

/// TensorBoard keeps the file open and reads on: so it grows in place, and only a new part of the run replaces it.
void Run::append_event(const std::vector<EpochMetrics>& history) const {
  if (history.size() == 1) return write_events(history);
  std::ofstream stream(folder_.events(), std::ios::binary | std::ios::app);
  if (!(stream << event_record(history.back()) << std::flush)) {
    throw UserError("cannot write to " + folder_.events().string());
  }
}

int Run::stop() {
  save();
  progress_.say(
      c10::str("interrupted in ", place(), "; to go on: ", record_.program, " --resume --out ", folder_.path.string()));
  return 128 + std::max(interruption(), processes_.are_several() ? SIGTERM : 0);
}

int Run::end() {
  if (!writes()) return 0;
  finish_writing();
  const EpochMetrics& last = record_.history.back();
  if (was_tested(record_.history))
    progress_.say(c10::str("last epoch: top-1 ", percent(last.top1), ", top-5 ", percent(last.top5),
                           "; mean top-1 of the last five epochs: ", percent(mean_top1_of_last_five(record_.history))));
  if (plotting_available()) {
    if (was_tested(record_.history)) plot_accuracy(record_.history, folder_.accuracy_plot());
    plot_angles(record_.history, folder_.angles_plot());
    progress_.say(c10::str("pictures: ", was_tested(record_.history) ? folder_.accuracy_plot().string() + ", " : "",
                           folder_.angles_plot().string()));
  } else {
    progress_.say("no pictures: gnuplot is not installed");
  }
  if (order_.exported) {
    export_weights(folder_.checkpoint(), *order_.exported);
    progress_.say("weights: " + order_.exported->string());
  }
  return 0;
}

int Run::go_on() {
  // The run was killed between its checkpoint and these files.
  if (writes() && !is_there(folder_.config())) write_config();
  if (writes() && !record_.history.empty()) {
    write_metrics(record_.history);
    write_events(record_.history);
  }
  if (record_.position.epoch >= settings().epochs) {
    progress_.say("the run in " + folder_.path.string() + " is already finished");
    return end();
  }
  while (record_.position.epoch < settings().epochs) {
    if (!train_epoch() || !finish_epoch()) return stop();
  }
  return end();
}

void use_threads(int64_t count) { at::set_num_threads(static_cast<int>(count)); }

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw UserError("cannot make the folder " + path.string() + ": " + error.message());
}

void check_data(const RunRecord& record, const Training& training, const std::string& checkpoint) {
  const Dataset& dataset = training.dataset();
  if (dataset.train.labels.size(0) != record.train_images || dataset.classes != record.classes) {
    throw UserError(c10::str(checkpoint, " comes from ", record.train_images, " training images of ", record.classes,
                             " classes, but ", record.settings.data, " has ", dataset.train.labels.size(0), " of ",
                             dataset.classes));
  }
}

void check_own_settings(const RunRecord& record, const Trainer& trainer, const std::string& checkpoint) {
  try {
    trainer.check(record.settings);
  } catch (const BadJson& error) {
    throw UserError(checkpoint + ": " + error.about("the record of its run"));
  } catch (const UserError& error) {
    throw UserError(checkpoint + " holds settings that no run can have: " + error.what());
  }
}

/// A run's --resume belongs to the program that began it.
void check_program(const RunRecord& record, const Trainer& trainer, const RunOrder& order) {
  if (record.program == trainer.program) return;
  throw UserError(c10::str(order.folder.path.string(), " holds a run of ", record.program, ": go on with it by ",
                           record.program, " --resume"));
}

void refuse_to_replace(const RunFolder& folder) {
  if (!folder.holds_a_run()) return;
  throw UserError(folder.path.string() +
                  " already holds a run: go on with it by --resume, or choose another folder by --out");
}

/// Of a folder that is not there yet, nobody can be writing.
std::unique_ptr<FolderLock> lock_where_there(const fs::path& folder) {
  return is_folder(folder) ? std::make_unique<FolderLock>(folder) : nullptr;
}

}  // namespace

bool RunFolder::holds_a_run() const {
  return is_there(config()) || is_there(checkpoint()) || is_there(metrics_csv()) || is_there(metrics_jsonl());
}

namespace {

/// While it lives, nothing is written to std::cerr.
class SilencedErrors {
 public:
  explicit SilencedErrors(bool silenced) : before_(silenced ? std::cerr.rdbuf(nullptr) : std::cerr.rdbuf()) {}
  ~SilencedErrors() { std::cerr.rdbuf(before_); }
  SilencedErrors(const SilencedErrors&) = delete;
  SilencedErrors& operator=(const SilencedErrors&) = delete;

 private:
  std::streambuf* before_;
};

/// A new run or one that goes on, in this process and in the others that a launcher has started with it.
class Start {
 public:
  Start(const RunOrder& order, const Trainer& trainer, Progress& progress, Processes& processes)
      : order_(order), trainer_(trainer), processes_(processes), progress_(processes.is_first() ? progress : quiet_) {}

  int anew(const Settings& settings);
  int on(const std::function<void(Settings&)>& change);

 private:
  struct Loaded {
    TensorFile file;  ///< rank 0's alone
    RunRecord record;
  };

  Loaded loaded(const std::function<void(Settings&)>& change);
  RunRecord record_of(const Settings& settings, const Training& training) const;
  void expect_same_run(const RunRecord& record);
  Training made_training(const Settings& settings);
  int interrupted_before_its_first_step();

  const RunOrder& order_;
  const Trainer& trainer_;
  Processes& processes_;
  NoProgress quiet_;
  Progress& progress_;
  std::unique_ptr<FolderLock> lock_;
};

/// All wait for the one that reads its data longest, and are connected then.
Training Start::made_training(const Settings& settings) {
  processes_.set_timeout(static_cast<double>(settings.timeout));
  if (settings.device == "cuda" && processes_.are_several()) take_own_gpu(processes_.launch());
  check_device(settings);
  use_threads(settings.threads);
  const auto load = [&] {
    const SilencedErrors quiet(!processes_.is_first());  // of what all read, one tells
    return prepared(trainer_.load(settings), settings);
  };
  Dataset dataset = load();
  processes_.meet("data");
  processes_.connect(settings.device);
  return Training(settings, std::move(dataset), trainer_, processes_);
}

RunRecord Start::record_of(const Settings& settings, const Training& training) const {
  RunRecord record;
  record.program = trainer_.program;
  record.settings = settings;
  record.train_images = training.dataset().train.labels.size(0);
  record.classes = training.dataset().classes;
  return record;
}

/// What decides the numbers is rank 0's, and the others must have been started with the same and see as many images.
void Start::expect_same_run(const RunRecord& record) {
  const RunRecord first = record_from_text(processes_.shared([&] { return text_of(record); }));
  for (const OptionRow<Settings>& row : run_options()) {
    const Given own = value_of(row, record.settings), firsts = value_of(row, first.settings);
    require(row.of_machine || own == firsts,
            c10::str(row.name, " is ", text(own), " here and ", text(firsts), " in rank 0: one command line for all"));
  }
  require(record.settings.of_program == first.settings.of_program,
          "the options of " + trainer_.program + " are others here than in rank 0: one command line for all");
  require(first.train_images == record.train_images && first.classes == record.classes,
          c10::str(record.settings.data, " has ", record.train_images, " training images of ", record.classes,
                   " classes here, in rank 0 ", first.train_images, " of ", first.classes));
}

int Start::interrupted_before_its_first_step() {
  progress_.say("interrupted before its first step: nothing is written");
  return 128 + std::max(interruption(), processes_.are_several() ? SIGTERM : 0);
}

int Start::anew(const Settings& settings) {
  if (processes_.is_first()) {
    lock_ = lock_where_there(order_.folder.path);
    refuse_to_replace(order_.folder);
  }
  Training training = made_training(settings);
  const RunRecord record = record_of(settings, training);
  expect_same_run(record);
  if (processes_.now_anyone(interruption() != 0)) return interrupted_before_its_first_step();
  if (processes_.is_first()) {
    make_folder(order_.folder.path);
    if (!lock_) {
      lock_ = std::make_unique<FolderLock>(order_.folder.path);
      refuse_to_replace(order_.folder);  // another one may have come and gone while the data were read
    }
  }
  Run run(order_, record, training, progress_, processes_);
  run.write_beginning();
  run.say_what_is_trained();
  return run.go_on();
}

/// Rank 0 reads the checkpoint, which nobody else needs to see.
Start::Loaded Start::loaded(const std::function<void(Settings&)>& change) {
  Loaded loaded;
  const std::string checkpoint = order_.folder.checkpoint().string();
  const std::string text = processes_.shared([&] {
    if (!is_there(checkpoint)) throw UserError("there is no run to resume in " + order_.folder.path.string());
    lock_ = std::make_unique<FolderLock>(order_.folder.path);
    loaded.file = read_tensor_file(checkpoint);
    std::optional<RunRecord> record = record_in(loaded.file, checkpoint);
    if (!record) throw UserError(checkpoint + " is not a checkpoint of " + trainer_.program);
    check_program(*record, trainer_, order_);
    check_own_settings(*record, trainer_, checkpoint);
    loaded.record = *record;
    return text_of(*record);
  });
  if (!processes_.is_first()) loaded.record = record_from_text(text);
  change(loaded.record.settings);
  return loaded;
}

int Start::on(const std::function<void(Settings&)>& change) {
  const std::string checkpoint = order_.folder.checkpoint().string();
  int64_t threads = 0;
  const Loaded loaded = this->loaded([&](Settings& settings) {
    threads = settings.threads;
    change(settings);
  });
  const Settings& settings = loaded.record.settings;
  Training training = made_training(settings);
  check_data(loaded.record, training, checkpoint);
  if (processes_.is_first()) training.load_state(loaded.file, checkpoint);
  training.share_state();
  if (settings.threads != threads) {
    progress_.say(c10::str("warning: the run began with --threads ", threads, ", so with ", settings.threads,
                           " it will not end with the same numbers bit for bit"));
  }
  if (processes_.restarts() > 0) {
    progress_.say(c10::str("started anew by the launcher (", processes_.restarts(), "): goes on from the checkpoint"));
  }
  Run run(order_, loaded.record, training, progress_, processes_);
  run.say_what_is_trained();
  return run.go_on();
}

/// `together`: what the processes do that a launcher has started, or this one alone.
int in_processes(const Trainer& trainer, const Settings& settings, const std::function<int(Processes&)>& together) {
  watch_for_interruption();
  const std::optional<Launch> launch = launch_of_environment();
  if (!launch || launch->address.empty()) return together(Processes::alone());
  Processes processes(*launch, trainer.program, static_cast<double>(settings.timeout));
  return processes.run([&] { return together(processes); });
}

}  // namespace

int start_run(const Settings& settings, const RunOrder& order, const Trainer& trainer, Progress& progress) {
  return in_processes(trainer, settings, [&](Processes& processes) {
    Start start(order, trainer, progress, processes);
    // What a launcher has started anew goes on with what it began.
    return processes.has_begun() ? start.on([](Settings&) {}) : start.anew(settings);
  });
}

int resume_run(const RunOrder& order, const std::function<void(Settings&)>& change, const Trainer& trainer,
               Progress& progress) {
  return in_processes(trainer, Settings(),
                      [&](Processes& processes) { return Start(order, trainer, progress, processes).on(change); });
}

void export_weights(const fs::path& checkpoint, const fs::path& path) {
  const TensorFile file = read_tensor_file(checkpoint);
  const std::optional<RunRecord> record = record_in(file, checkpoint);
  if (!record) throw UserError(checkpoint.string() + " is not a checkpoint of a training");
  TensorFile weights;
  weights.tensors = tested_weights(file, record->settings);
  weights.metadata = {{"format", "pt"}, {"model", record->settings.model}, {"dataset", record->settings.dataset}};
  write_tensor_file(path, weights);
}

}  // namespace mma::examples
