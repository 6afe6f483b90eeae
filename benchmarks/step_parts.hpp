// Where the time of a training step goes: LibTorch's own record of every operation (ATen/record_function.h), summed by
// part. On a CPU by its clock, on a GPU by events in its stream.
#pragma once

#include <ATen/Functions.h>
#include <ATen/record_function.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mma::benchmarks {

/// Of these parts a step consists, in the order of the table.
inline const std::vector<std::string>& parts_of_a_step() {
  static const std::vector<std::string> parts = {"batch",
                                                 "convolutions",
                                                 "normalisation and activation",
                                                 "pooling",
                                                 "linear",
                                                 "loss",
                                                 "casts and copies",
                                                 "regularizer",
                                                 "update",
                                                 "rest"};
  return parts;
}

/// The part of what the trainer or autograd names (by the beginning: numbers follow) or of an operation of LibTorch's;
/// empty for what belongs to whatever it is called from.
inline std::string_view part_of(std::string_view name) {
  static const std::vector<std::pair<std::string_view, std::string_view>> parts = {
      {"mma.batch", "batch"},
      {"mma.regularizer", "regularizer"},
      {"mma.update", "update"},
      {"mma.normalisation", "normalisation and activation"},
      {"aten::conv2d", "convolutions"},
      {"ConvolutionBackward", "convolutions"},
      {"aten::batch_norm", "normalisation and activation"},
      {"NativeBatchNormBackward", "normalisation and activation"},
      {"CudnnBatchNormBackward", "normalisation and activation"},
      {"aten::relu", "normalisation and activation"},
      {"aten::relu_", "normalisation and activation"},
      {"ReluBackward", "normalisation and activation"},
      {"aten::add_", "normalisation and activation"},
      {"aten::max_pool2d", "pooling"},
      {"MaxPool2D", "pooling"},
      {"aten::adaptive_avg_pool2d", "pooling"},
      {"aten::avg_pool2d", "pooling"},
      {"AvgPool2DBackward", "pooling"},
      {"MeanBackward", "pooling"},
      {"aten::cat", "pooling"},
      {"CatBackward", "pooling"},
      {"aten::linear", "linear"},
      {"AddmmBackward", "linear"},
      {"aten::cross_entropy_loss", "loss"},
      {"NllLossBackward", "loss"},
      {"LogSoftmaxBackward", "loss"},
      {"aten::to", "casts and copies"},
      {"ToCopyBackward", "casts and copies"},
  };
  for (const auto& [known, part] : parts) {
    if (name == known || (name.starts_with(known) && !known.starts_with("aten::"))) return part;
  }
  return {};
}

/// What is a part with all that runs in it: what the trainer has named, and a convolution's backward, which makes the
/// filters' gradients float32 itself.
inline bool is_whole(std::string_view name) {
  return name == "mma.batch" || name == "mma.regularizer" || name == "mma.update" ||
         name.starts_with("ConvolutionBackward");
}

/// While it lives, the time of what runs is added up by part. One at a time.
class StepParts {
 public:
  explicit StepParts(c10::Device device) : device_(device) {
    running() = this;
    marks_.reserve(4096);
    switch_to("rest");
    callback_ = at::addGlobalCallback(
        at::RecordFunctionCallback(begin, end)
            .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
  }
  ~StepParts() {
    at::removeCallback(callback_);
    running() = nullptr;
  }
  StepParts(const StepParts&) = delete;
  StepParts& operator=(const StepParts&) = delete;

  /// Milliseconds since it began, part by part; waits for a GPU.
  std::map<std::string, double> milliseconds() {
    const std::lock_guard lock(mutex_);
    switch_to("rest");
    if (device_.is_cuda()) marks_.back().event->synchronize();
    std::map<std::string, double> result;
    for (size_t k = 0; k + 1 < marks_.size(); ++k)
      result[std::string(marks_[k].part)] += between(marks_[k], marks_[k + 1]);
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// From here on the time is this part's.
  struct Mark {
    std::string_view part;
    Clock::time_point time;
    std::unique_ptr<c10::Event> event;
  };

  struct Claim {
    std::string_view part;
    bool whole;
  };
  struct Claimed : at::ObserverContext {};

  static StepParts*& running() {
    static StepParts* running = nullptr;
    return running;
  }

  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    StepParts* parts = running();
    if (parts == nullptr) return nullptr;
    const std::lock_guard lock(parts->mutex_);
    const Claim claim = claim_of(function.name());
    // Of operations the innermost counts.
    if (claim.part.empty()) return nullptr;
    if (!parts->claims_.empty() && (parts->claims_.back().whole || parts->claims_.front().part == claim.part)) {
      return nullptr;
    }
    parts->claims_.push_back(claim);
    parts->switch_to(claim.part);
    return std::make_unique<Claimed>();
  }

  static void end(const at::RecordFunction& /*function*/, at::ObserverContext* claimed) {
    StepParts* parts = running();
    if (parts == nullptr || claimed == nullptr) return;
    const std::lock_guard lock(parts->mutex_);
    parts->claims_.pop_back();
    parts->switch_to(parts->claims_.empty() ? "rest" : parts->claims_.back().part);
  }

  /// Remembered: a step has thousands of operations, and what looking costs would be counted too.
  static Claim claim_of(const std::string& name) {
    static std::unordered_map<std::string, Claim> known;
    const auto found = known.find(name);
    return found != known.end() ? found->second
                                : known.emplace(name, Claim{part_of(name), is_whole(name)}).first->second;
  }

  void switch_to(std::string_view part) {
    Mark mark{part, Clock::now(), nullptr};
    if (device_.is_cuda()) {
      const c10::impl::VirtualGuardImpl gpu(device_.type());
      mark.event = std::make_unique<c10::Event>(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
      mark.event->record(gpu.getStream(device_));
    }
    marks_.push_back(std::move(mark));
  }

  static double between(const Mark& first, const Mark& second) {
    if (first.event) return first.event->elapsedTime(*second.event);
    return std::chrono::duration<double, std::milli>(second.time - first.time).count();
  }

  c10::Device device_;
  std::mutex mutex_;
  std::vector<Claim> claims_;
  std::vector<Mark> marks_;
  at::CallbackHandle callback_ = 0;
};

}  // namespace mma::benchmarks
