// The scale of a loss whose gradients are made in float16, where small ones would become 0: torch.amp.GradScaler, which
// LibTorch's C++ API lacks. It grows while all goes well; where a gradient overflows, the step is left out and it
// shrinks. All of it stays on the device, so that nothing waits for the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "support/files/tensors.hpp"

namespace mma::examples {

struct GradientScalerOptions {  ///< torch.amp.GradScaler's own values
  double first_scale = 65536;
  double growth_factor = 2, backoff_factor = 0.5;
  int64_t growth_interval = 2000;  ///< steps without an overflow after which it grows
};

class GradientScaler {
 public:
  explicit GradientScaler(const at::Device& device, GradientScalerOptions options = {});

  /// The loss whose backward pass makes scaled gradients.
  at::Tensor scaled(const at::Tensor& loss) const;

  /// Divides gradients by the scale, in place. To be called once a step, when all gradients are there.
  void unscale(const std::vector<at::Tensor>& gradients);

  /// Not 0 where one of them was not finite: the step must be left out.
  const at::Tensor& found_inf() const { return found_inf_; }

  /// After the step: counts it, and changes the scale for the next one.
  void update();

  /// Steps left out since they were last set; on a GPU this waits for it.
  int64_t skipped_steps() const;
  void set_skipped_steps(int64_t count);

  double scale() const;

  /// What a resumed run goes on with: scale, and growth_tracker: steps without an overflow.
  NamedTensors state() const;

 private:
  GradientScalerOptions options_;
  at::Tensor scale_, growth_tracker_, found_inf_, skipped_;
};

}  // namespace mma::examples
