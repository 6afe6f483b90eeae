// AutoAugment (Cubuk et al., 2019) with its policy for CIFAR, and Cutout (DeVries and Taylor, 2017), on uint8 batches
// on their device. Every operation gives Pillow's pixels; which images get which is drawn from (seed, epoch, step)
// alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <vector>

namespace mma::examples {

enum class Operation {
  ShearX,
  ShearY,
  TranslateX,
  TranslateY,
  Rotate,
  AutoContrast,
  Invert,
  Equalize,
  Solarize,
  Posterize,
  Contrast,
  Color,
  Brightness,
  Sharpness
};

/// An operation of a sub-policy: its probability and its magnitude from 0 to 9.
struct PolicyStep {
  Operation operation;
  double probability;
  int magnitude;
};

using SubPolicy = std::array<PolicyStep, 2>;

/// The 25 sub-policies that were found on CIFAR-10.
const std::array<SubPolicy, 25>& cifar_policy();

/// An operation with the number that Pillow takes: the shear, pixels, degrees against the clock, the threshold, the
/// bits that stay, the factor of an enhancement (1 leaves the image as it is). AutoContrast, Invert and Equalize take
/// none.
struct Edit {
  Operation operation;
  double value = 0;
};

/// The edit of a magnitude on images so many pixels wide or high. `negative` turns the direction of a geometric one and
/// takes an enhancement below 1; for the others it says nothing.
Edit edit_of(Operation operation, int magnitude, bool negative, int64_t size);

/// For each image its edit, or none.
using Edits = std::vector<std::optional<Edit>>;

/// A sub-policy for each of `count` square images, drawn uniformly, each step by its probability and with either sign.
std::array<Edits, 2> drawn_edits(int64_t count, int64_t size, uint64_t seed, int64_t epoch, int64_t step);

/// uint8 [B, 1 or 3, H, W] after their edits. Geometric ones put the colour `fill` (a number a channel) outside the
/// image.
at::Tensor edited(const at::Tensor& images, const Edits& edits, const std::vector<int64_t>& fill);

/// AutoAugment: both steps of the drawn sub-policies. Of a piece of a batch of `whole` images, which begins at the
/// `first`: with what is drawn for them there.
at::Tensor auto_augmented(const at::Tensor& images, const std::vector<int64_t>& fill, uint64_t seed, int64_t epoch,
                          int64_t step, int64_t first = 0, std::optional<int64_t> whole = {});

/// Where squares are cut out: int64 [2, B], the row and the column of their centres, anywhere in the image.
at::Tensor drawn_centres(int64_t count, int64_t height, int64_t width, uint64_t seed, int64_t epoch, int64_t step);

/// Paints in each image the square of `side` pixels around its centre (for an even side the pixel below and right of
/// the middle), as far as it is within the image.
at::Tensor cut_out(const at::Tensor& images, int64_t side, const at::Tensor& centres, const std::vector<int64_t>& fill);

}  // namespace mma::examples
