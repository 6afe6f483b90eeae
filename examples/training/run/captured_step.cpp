#include "training/run/captured_step.hpp"

#include <c10/util/Exception.h>

#ifdef MMA_TRAIN_HAS_CUDA_GRAPHS
#include <ATen/cuda/CUDAGraph.h>

#include <mma/side_stream.hpp>
#include <optional>

#include "support/process/error.hpp"
#endif

namespace mma::examples {

#ifdef MMA_TRAIN_HAS_CUDA_GRAPHS

namespace {

constexpr int64_t steps_before_capture = 3;  // as many as PyTorch's own guide takes

}  // namespace

struct CapturedStep::Implementation {
  explicit Implementation(const c10::Device& device) : stream(device) { current.emplace(stream); }
  ~Implementation() {
    current.reset();
    try {
      stream.join();
    } catch (const std::exception&) {  // the GPU has failed, which was said where it was noticed
    }
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  void capture(const std::function<void()>& step) {
    graph.emplace();
    try {
      graph->capture_begin();
      step();
      graph->capture_end();
    } catch (const c10::Error& error) {
      throw UserError(std::string("--cuda-graph: the step cannot be captured, leave the option out: ") +
                      error.what_without_backtrace());
    }
  }

  SideStream stream;
  std::optional<SideStream::Guard> current;
  std::optional<at::cuda::CUDAGraph> graph;
  int64_t steps = 0;
};

CapturedStep::CapturedStep(const c10::Device& device) : implementation_(std::make_unique<Implementation>(device)) {}

void CapturedStep::run(const std::function<void()>& step) {
  Implementation& mine = *implementation_;
  if (mine.steps++ < steps_before_capture) {
    step();
    return;
  }
  if (!mine.graph) mine.capture(step);
  mine.graph->replay();
}

int64_t CapturedStep::steps_without_the_cpu() const {
  return std::max<int64_t>(0, implementation_->steps - steps_before_capture - 1);
}

#else

struct CapturedStep::Implementation {};

CapturedStep::CapturedStep(const c10::Device&) { TORCH_CHECK(false, "mma-train was built without CUDA graphs"); }

void CapturedStep::run(const std::function<void()>& step) { step(); }

int64_t CapturedStep::steps_without_the_cpu() const { return 0; }

#endif

CapturedStep::~CapturedStep() = default;

}  // namespace mma::examples
