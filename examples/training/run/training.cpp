#include "training/run/training.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>
#include <c10/util/StringUtil.h>

#include <sys/resource.h>

#include <cmath>
#include <cstdlib>
#include <mma/random_draws.hpp>
#include <set>

#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "training/data/augmentation.hpp"
#include "training/distributed/synchronised_norm.hpp"
#include "training/models/weights.hpp"
#include "training/run/checkpoint.hpp"
#include "training/run/precision.hpp"
#include "training/settings/capturable.hpp"
#include "training/settings/schedule.hpp"

namespace mma::examples {
namespace {

constexpr int64_t evaluation_batch = 256;  // fixed: the sums inside a layer may depend on the batch's size

Options regularizer_options(const Settings& settings) {
  const Scope scope = settings.scope == "hidden"   ? Scope::Hidden
                      : settings.scope == "output" ? Scope::Output
                                                   : Scope::All;
  return Options().coefficient(settings.coefficient).scope(scope).refresh_every(settings.refresh_every);
}

/// `count` images drawn by the seed. `draw` keeps the draws apart from each other and from the epochs' orders.
LabelledImages subset(const LabelledImages& split, int64_t count, uint64_t seed, int64_t draw) {
  if (count == 0 || count >= split.labels.size(0)) return split;
  const at::Tensor chosen = epoch_order(split.labels.size(0), seed, -1 - draw).narrow(0, 0, count);
  return {split.images.index_select(0, chosen), split.labels.index_select(0, chosen)};
}

LabelledImages on_device(const LabelledImages& split, const at::Device& device) {
  return {split.images.to(device), split.labels.to(device)};
}

at::MemoryFormat memory_format(const Settings& settings) {
  return settings.channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

/// The network's answer, in the settings' precision.
at::Tensor logits_of(ImageClassifier& model, const at::Tensor& images, const Settings& settings) {
  const PrecisionGuard guard(settings.precision, images.device());
  return model.forward(images).to(at::kFloat);
}

at::Tensor training_logits_of(ImageClassifier& model, const at::Tensor& images, const at::Tensor& labels,
                              const Settings& settings) {
  const PrecisionGuard guard(settings.precision, images.device());
  return model.training_logits(images, labels).to(at::kFloat);
}

/// Of the whole program. cuDNN's algorithms give the same bits each time unless it is to look for the fastest ones.
void use_deterministic_algorithms(const Settings& settings) {
  at::globalContext().setDeterministicCuDNN(!settings.cudnn_benchmark);
  at::globalContext().setBenchmarkCuDNN(settings.cudnn_benchmark);
  if (settings.deterministic) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);  // what cuBLAS needs
  at::globalContext().setDeterministicAlgorithms(settings.deterministic, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // it only costs time here
}

/// All but the frozen ones.
NamedTensors trained_parameters_of(const torch::nn::Module& model) {
  NamedTensors parameters = parameters_of(model);
  std::erase_if(parameters, [](const auto& parameter) { return !parameter.second.requires_grad(); });
  return parameters;
}

/// Keeps what a CUDA graph reads or writes in one place in memory.
void copy_into(at::Tensor& place, const at::Tensor& values) {
  place.defined() ? place.copy_(values) : place = values.clone();
}

bool is_nearest(const std::string& name) { return name.starts_with("nearest."); }

/// Of several processes, so that each drops other activations, and the same ones after a resumption.
uint64_t seed_of_step(uint64_t seed, int64_t epoch, int64_t step, int64_t rank) {
  uint64_t mixed = splitmix64(seed);
  for (const int64_t number : {epoch, step, rank}) mixed = splitmix64(mixed ^ static_cast<uint64_t>(number));
  return mixed;
}

Hits hits_of_all(const Hits& hits, Processes& processes) {
  at::Tensor numbers = at::tensor({hits.top1, hits.top5, hits.images});
  processes.add_up(numbers);
  return {numbers[0].item<int64_t>(), numbers[1].item<int64_t>(), numbers[2].item<int64_t>()};
}

double own_peak_memory_mib(const Settings& settings) {
  constexpr double bytes_in_mib = 1024.0 * 1024.0;
  if (settings.device == "cuda") {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(0);
    return static_cast<double>(stats.allocated_bytes[0].peak) / bytes_in_mib;  // [0]: of all pools together
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / bytes_in_mib;  // Linux counts in KiB
}

at::Generator generator_of(const std::string& device) {
  return at::globalContext().defaultGenerator(device == "cuda" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU));
}

}  // namespace

bool LossSums::finite() const { return std::isfinite(cross_entropy) && std::isfinite(regularization); }

Dataset prepared(Dataset dataset, const Settings& settings) {
  if (!settings.mean.empty()) {
    if (settings.mean.size() != dataset.mean.size()) {
      throw UserError(c10::str("--mean and --deviation have ", settings.mean.size(), " numbers, but the images of ",
                               dataset.name, " have ", dataset.mean.size(), " channels"));
    }
    dataset.mean = settings.mean;
    dataset.deviation = settings.deviation;
  }
  const at::Device device(settings.device);
  dataset.train = on_device(subset(dataset.train, settings.limit_train, settings.seed, 0), device);
  dataset.test = on_device(subset(dataset.test, settings.limit_test, settings.seed, 1), device);
  return dataset;
}

std::shared_ptr<ImageClassifier> make_network(const Settings& settings, const Dataset& dataset,
                                              const Trainer& trainer) {
  const ImageShape shape{dataset.train.images.size(1), dataset.train.images.size(2)};
  auto model = trainer.make_network(settings, shape, dataset.classes);
  const at::Device device(settings.device);
  model->to(device);
  for (at::Tensor& parameter : model->parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(memory_format(settings)));
  }
  return model;
}

std::optional<Hits> evaluated(ImageClassifier& model, const Settings& settings, const Dataset& dataset,
                              const LabelledImages& split, const std::function<bool()>& stop, Processes& processes) {
  const c10::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  const Normalisation normalisation(dataset.mean, dataset.deviation, split.images.device());
  HitCounter counter;
  bool stopped = false;
  const int64_t count = split.labels.size(0);
  const int64_t stride = processes.count() * evaluation_batch;
  for (int64_t first = processes.rank() * evaluation_batch; first < count && !stopped; first += stride) {
    const int64_t length = std::min(evaluation_batch, count - first);
    const at::Tensor images = normalised(split.images.narrow(0, first, length), normalisation, memory_format(settings));
    counter.add(logits_of(model, images, settings), split.labels.narrow(0, first, length));
    stopped = !processes.are_several() && stop();
  }
  model.train(was_training);
  return stopped ? std::nullopt : std::optional(hits_of_all(counter.hits(), processes));
}

Training::Training(const Settings& settings, Dataset dataset, const Trainer& trainer, Processes& processes)
    : settings_(settings), dataset_(std::move(dataset)), processes_(processes) {
  const int64_t count = dataset_.train.labels.size(0);
  if (settings.batch > count) {
    throw UserError(c10::str("--batch ", settings.batch, " is larger than the ", count, " training images."));
  }
  if (settings.cuda_graph) {
    if (const std::string why_not = why_not_captured(settings); !why_not.empty()) throw UserError(why_not);
    if (processes.are_several()) {
      throw UserError(c10::str("--cuda-graph holds the step of one process, but the launcher has started ",
                               processes.count(), ": leave the option out"));
    }
    captured_ = std::make_unique<CapturedStep>(at::Device(settings.device));
  }
  batches_.emplace(dataset_, settings, processes.rank(), processes.count());
  use_deterministic_algorithms(settings);
  at::manual_seed(settings.seed);
  model_ = mma::examples::make_network(settings, dataset_, trainer);
  sgd_.emplace(trained_parameters_of(*model_),
               SgdOptions{settings.momentum, settings.weight_decay, settings.nesterov, settings.decay_filters_only});
  if (settings.regularizer != "none") {
    const NamedObjective& objective = objective_named(settings.regularizer, "--regularizer");
    regularizer_.emplace(*model_, objective.make(settings.seed),
                         regularizer_options(settings).share(processes.rank(), processes.count()));
  }
  if (settings.average > 0) average_.emplace(*model_, settings.average);
  if (settings.precision == "fp16") scaler_.emplace(at::Device(settings.device));
  for (const auto& [name, parameter] : trained_parameters_of(*model_)) trained_parameters_.push_back(parameter);
  if (processes.are_several()) reducer_ = std::make_unique<GradientReducer>(trained_parameters_, processes);
  all_layers_.emplace(*model_, Options().scope(Scope::All));
  share_state();
  set_sums({});
  set_counts({});
}

int64_t Training::parameter_count() const {
  int64_t count = 0;
  for (const auto& parameter : model_->parameters()) count += parameter.numel();
  return count;
}

Batch Training::batch_of(const at::Tensor& drawn, int64_t epoch, int64_t step) const {
  RECORD_USER_SCOPE("mma.batch");
  return batches_->batch(drawn, epoch, step);
}

void Training::step(int64_t epoch, int64_t step) {
  const at::Tensor drawn = batches_->drawn(epoch, step);
  sgd_->set_learning_rate(learning_rate_at(settings_, epoch, step, steps_per_epoch()));
  if (processes_.are_several()) {
    processes_.set_step(epoch * steps_per_epoch() + step);
    if (settings_.dropout > 0) at::manual_seed(seed_of_step(settings_.seed, epoch, step, processes_.rank()));
    return learn_piece(batch_of(drawn, epoch, step), drawn.size(1));
  }
  if (!captured_ || drawn.size(1) != settings_.batch) return learn(batch_of(drawn, epoch, step));
  if (batches_->are_of_the_device_alone()) {
    copy_into(captured_drawn_, drawn);
    return captured_->run([&] { learn(batch_of(captured_drawn_, epoch, step)); });
  }
  const Batch batch = batch_of(drawn, epoch, step);
  copy_into(captured_batch_.images, batch.images);
  copy_into(captured_batch_.labels, batch.labels);
  captured_->run([this] { learn(captured_batch_); });
}

void Training::learn(const Batch& batch) {
  if (scaler_) return learn_piece(batch, batch.labels.size(0));
  sgd_->zero_grad();
  const at::Tensor loss =
      at::cross_entropy_loss(training_logits_of(*model_, batch.images, batch.labels, settings_), batch.labels,
                             /*weight=*/{}, at::Reduction::Mean, /*ignore_index=*/-100, settings_.label_smoothing);
  loss.backward();
  const c10::NoGradGuard no_grad;
  sums_[0] += loss.detach() * batch.images.size(0);
  if (regularizer_) {
    RECORD_USER_SCOPE("mma.regularizer");
    sums_[1] += regularizer_->accumulate_gradient();
  }
  update();
}

void Training::learn_piece(const Batch& batch, int64_t images_in_batch) {
  sgd_->zero_grad();
  const auto processes = static_cast<double>(processes_.count());
  at::Tensor logits;
  {
    std::optional<SynchronisedNorm> whole_batch;
    if (settings_.sync_batch_norm) whole_batch.emplace(processes_);
    logits = training_logits_of(*model_, batch.images, batch.labels, settings_);
  }
  const at::Tensor sum = at::cross_entropy_loss(logits, batch.labels, /*weight=*/{}, at::Reduction::Sum,
                                                /*ignore_index=*/-100, settings_.label_smoothing);
  at::Tensor loss = sum * (processes / static_cast<double>(images_in_batch));
  at::Tensor regularization = at::zeros({}, sum.options());
  if (regularizer_) {
    RECORD_USER_SCOPE("mma.regularizer");
    regularization = regularizer_->loss().to(sum.device());  // a share without layers is a 0 of the CPU
    loss = loss + regularization;
  }
  if (scaler_) loss = scaler_->scaled(loss);
  reducer_ ? reducer_->backward(loss) : loss.backward();
  const c10::NoGradGuard no_grad;
  const at::Tensor losses = at::stack({sum.to(at::kDouble), regularization.to(at::kDouble) / processes});
  processes_.are_several() ? losses_.push_back(losses) : static_cast<void>(sums_ += losses);
  update();
}

void Training::update() {
  RECORD_USER_SCOPE("mma.update");
  if (!scaler_) {
    sgd_->step();
  } else {
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : trained_parameters_) gradients.push_back(parameter.grad());
    scaler_->unscale(gradients);
    sgd_->step(scaler_->found_inf());
    scaler_->update();
  }
  if (average_) average_->add(*model_);
}

LossSums Training::sums() {
  if (!processes_.are_several()) {
    const at::Tensor sums = sums_.cpu();
    return {sums[0].item<double>(), sums[1].item<double>()};
  }
  if (losses_.empty()) return sums_of_all_;
  at::Tensor steps = at::stack(losses_).cpu();
  processes_.add_up(steps);
  losses_.clear();
  // Step by step, so that it does not matter when somebody looked: a resumed run ends with the same bits.
  for (int64_t step = 0; step < steps.size(0); ++step) {
    sums_of_all_.cross_entropy += steps[step][0].item<double>();
    sums_of_all_.regularization += steps[step][1].item<double>();
  }
  return sums_of_all_;
}

void Training::set_sums(const LossSums& sums) {
  sums_of_all_ = sums;
  losses_.clear();
  copy_into(sums_, at::tensor({sums.cross_entropy, sums.regularization}, at::kDouble).to(at::Device(settings_.device)));
}

double Training::own_seconds() const { return processes_.seconds() + (reducer_ ? reducer_->seconds() : 0); }

StepCounts Training::counts() {
  at::Tensor seconds = at::tensor({own_seconds() - seconds_counted_}, at::kDouble);
  processes_.add_up(seconds);
  return {scaler_ ? scaler_->skipped_steps() : 0,
          communication_seconds_ + seconds.item<double>() / static_cast<double>(processes_.count())};
}

void Training::set_counts(const StepCounts& counts) {
  if (scaler_) scaler_->set_skipped_steps(counts.skipped);
  communication_seconds_ = counts.communication_seconds;
  seconds_counted_ = own_seconds();
}

void Training::share_buffers() {
  if (!processes_.are_several()) return;
  std::set<std::string> names;
  for (const auto& buffer : model_->named_buffers()) names.insert(buffer.key());
  std::vector<at::Tensor> tensors = model_->buffers();
  if (average_) {
    for (const auto& [name, tensor] : average_->state()) {
      if (names.contains(name)) tensors.push_back(tensor);
    }
  }
  processes_.broadcast(tensors);
}

std::optional<Hits> Training::evaluate(const std::function<bool()>& stop) {
  share_buffers();
  if (!average_) return evaluated(*model_, settings_, dataset_, dataset_.test, stop, processes_);
  const AverageInPlace in_place(*average_, *model_);
  return evaluated(*model_, settings_, dataset_, dataset_.test, stop, processes_);
}

AngleSummary Training::angles() const {
  AngleSummary summary;
  double sum = 0;
  int64_t count = 0;
  for (const LayerAngles& layer : all_layers_->report().layers) {
    summary.minimal_angles.emplace_back(layer.name, degrees(layer.minimal_angle));
    summary.pairs_above += layer.pairs_above;
    if (std::isnan(layer.mean_nearest_angle)) continue;
    sum += degrees(layer.mean_nearest_angle);
    ++count;
  }
  summary.mean_nearest_angle = sum / static_cast<double>(count);
  return summary;
}

bool Training::weights_are_finite() const {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : state_of(*model_)) {
    if (tensor.is_floating_point()) tensors.push_back(tensor);
  }
  return at::isfinite(at::stack(at::_foreach_norm(tensors, std::numeric_limits<double>::infinity())))
      .all()
      .item<bool>();
}

double Training::peak_memory_mib() {
  at::Tensor peak = at::tensor({own_peak_memory_mib(settings_)}, at::kDouble);
  processes_.take_largest(peak);
  return peak.item<double>();
}

/// The tensors themselves.
NamedTensors Training::own_state() const {
  NamedTensors tensors;
  for (const auto& [name, tensor] : state_of(*model_))
    tensors.emplace_back(checkpoint_model_prefix + name, tensor.detach());
  if (average_) {
    for (const auto& [name, tensor] : average_->state()) tensors.emplace_back(checkpoint_average_prefix + name, tensor);
  }
  for (const auto& [name, tensor] : sgd_->momentum_buffers()) tensors.emplace_back("optimizer." + name, tensor);
  if (scaler_) {
    for (const auto& [name, tensor] : scaler_->state()) tensors.emplace_back("scaler." + name, tensor);
  }
  return tensors;
}

/// Without the neighbours where they are those of a process's share: whoever goes on searches anew.
std::map<std::string, at::Tensor> Training::regularizer_state() const {
  auto state = regularizer_->state();
  if (captured_) state["step"] = state.at("step") + captured_->steps_without_the_cpu();
  if (processes_.are_several()) std::erase_if(state, [](const auto& each) { return is_nearest(each.first); });
  return state;
}

NamedTensors Training::state() const {
  NamedTensors tensors = own_state();
  if (regularizer_) {
    for (const auto& [name, tensor] : regularizer_state()) tensors.emplace_back("regularizer." + name, tensor);
  }
  tensors.emplace_back("random.cpu", generator_of("cpu").get_state());
  if (settings_.device == "cuda") tensors.emplace_back("random.cuda", generator_of("cuda").get_state());
  for (auto& [name, tensor] : tensors) tensor = tensor.cpu();
  return tensors;
}

void Training::load_state(const TensorFile& file, const std::string& path) {
  load_tensors(tensors_under(file, checkpoint_model_prefix), state_of(*model_), path);
  if (average_) load_tensors(tensors_under(file, checkpoint_average_prefix), average_->state(), path);
  load_tensors(tensors_under(file, "optimizer."), sgd_->momentum_buffers(), path);
  if (scaler_) load_tensors(tensors_under(file, "scaler."), scaler_->state(), path);
  if (regularizer_) {
    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : tensors_under(file, "regularizer.")) {
      if (!(processes_.are_several() && is_nearest(name))) state[name] = tensor;
    }
    regularizer_->load_state(state);
  }
  for (const std::string device : {"cpu", "cuda"}) {
    const at::Tensor* random = file.find("random." + device);
    if (random != nullptr && (device == "cpu" || settings_.device == device)) generator_of(device).set_state(*random);
  }
}

/// Random numbers are not shared: what is drawn at a step of several processes is drawn from the step's own seed.
void Training::share_state() {
  if (!processes_.are_several()) return;
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : own_state()) tensors.push_back(tensor);
  std::map<std::string, at::Tensor> regularizer;
  if (regularizer_) regularizer = regularizer_state();
  for (const auto& [name, tensor] : regularizer) tensors.push_back(tensor);
  processes_.broadcast(tensors);
  if (regularizer_) regularizer_->load_state(regularizer);
}

}  // namespace mma::examples
