#include "training/distributed/gradient_reducer.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace mma::examples {
namespace {

constexpr bool find_unused_parameters = false, gradient_as_bucket_view = false, skip_unused_parameters = false,
               use_python_reducer = false;
constexpr double nanoseconds = 1e-9;

std::shared_ptr<c10d::Reducer> reducer_of(const std::vector<at::Tensor>& parameters,
                                          const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  const std::vector<bool> none_is_sparse(parameters.size(), false);
  const auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
      parameters, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap}, none_is_sparse));
  return std::make_shared<c10d::Reducer>(parameters, buckets, group, none_is_sparse, c10d::kDefaultBucketBytesCap,
                                         find_unused_parameters, gradient_as_bucket_view,
                                         std::unordered_map<size_t, std::string>(), c10d::kDefaultFirstBucketBytes,
                                         skip_unused_parameters, use_python_reducer, std::vector<int64_t>());
}

/// A filter of one pixel lies alike in any order of its dimensions, and LibTorch may give its gradient other strides
/// than the filter has: about that c10d warns, though the copy is as good.
class StrideWarningsDropped : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    if (warning.msg().find("Grad strides do not match") == std::string::npos) before_->process(warning);
  }

 private:
  c10::WarningHandler* before_ = c10::WarningUtils::get_warning_handler();
};

}  // namespace

struct GradientReducer::Implementation {
  std::shared_ptr<c10d::Reducer> reducer;
  std::shared_ptr<c10d::Logger> logger;
  double waited = 0;  ///< in the steps that were measured
  int64_t measured = 0, steps = 0;

  /// The step before: c10d reads its clocks when the next one begins.
  void count_step_before() {
    logger->set_runtime_stats_and_log();
    const auto numbers = logger->get_ddp_logging_data().ints_map;
    const auto number = [&](const char* name) {
      const auto found = numbers.find(name);
      return found == numbers.end() ? int64_t{0} : found->second;
    };
    if (steps == 0 || number("backward_comm_time") == 0) return;
    const int64_t alone = number("backward_comm_time") - number("backward_compute_comm_overlap_time");
    waited += nanoseconds * static_cast<double>(std::max<int64_t>(0, alone));
    ++measured;
  }
};

GradientReducer::GradientReducer(const std::vector<at::Tensor>& parameters, const Processes& processes)
    : implementation_(std::make_unique<Implementation>()) {
  // As the backward pass meets them, from the first step on and whatever it meets: so that a resumed run adds up in the
  // same order as one that was not interrupted.
  const std::vector<at::Tensor> reversed(parameters.rbegin(), parameters.rend());
  Implementation& mine = *implementation_;
  mine.reducer = reducer_of(reversed, processes.group());
  mine.logger = std::make_shared<c10d::Logger>(mine.reducer);
  mine.reducer->set_logger(mine.logger);
  mine.logger->set_construction_data_and_log("network", {}, -1, false, false, false);
  mine.reducer->push_rebuilt_params_for_all_indices();
  mine.reducer->rebuild_buckets();
  if (parameters.front().is_cpu()) mine.reducer->set_ddp_runtime_logging_sample_rate(1);
}

GradientReducer::~GradientReducer() = default;

void GradientReducer::backward(const at::Tensor& loss) {
  Implementation& mine = *implementation_;
  mine.count_step_before();
  StrideWarningsDropped handler;
  const c10::WarningUtils::WarningHandlerGuard guard(&handler);
  mine.reducer->prepare_for_forward();
  mine.reducer->prepare_for_backward({loss});
  loss.backward();
  ++mine.steps;
}

double GradientReducer::seconds() const {
  const Implementation& mine = *implementation_;
  return mine.measured == 0 ? 0 : mine.waited / static_cast<double>(mine.measured) * static_cast<double>(mine.steps);
}

}  // namespace mma::examples
