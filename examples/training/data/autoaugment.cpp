#include "training/data/autoaugment.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <numbers>

#include "training/data/augmentation.hpp"

namespace mma::examples {
namespace {

constexpr Operation operations[] = {
    Operation::ShearX,       Operation::ShearY, Operation::TranslateX, Operation::TranslateY, Operation::Rotate,
    Operation::AutoContrast, Operation::Invert, Operation::Equalize,   Operation::Solarize,   Operation::Posterize,
    Operation::Contrast,     Operation::Color,  Operation::Brightness, Operation::Sharpness};

constexpr int shades = 256;
constexpr double largest_magnitude = 9;

// --- geometric operations: nearest pixel under an affine map
// ----------------------------------------------------------

/// From a pixel of the result to one of the source: x' = xx * x + xy * y + x0, and the same for y'.
struct AffineMap {
  double xx = 1, xy = 0, x0 = 0, yx = 0, yy = 1, y0 = 0;
};

/// Around the image's middle; Pillow rounds sine and cosine to 15 digits.
AffineMap rotation(double degrees, int64_t height, int64_t width) {
  const auto rounded = [](double number) { return std::round(number * 1e15) / 1e15; };
  const double angle = -degrees * std::numbers::pi / 180;
  const double middle_x = static_cast<double>(width) / 2, middle_y = static_cast<double>(height) / 2;
  AffineMap map{rounded(std::cos(angle)),  rounded(std::sin(angle)), 0,
                rounded(-std::sin(angle)), rounded(std::cos(angle)), 0};
  map.x0 = middle_x - map.xx * middle_x - map.xy * middle_y;
  map.y0 = middle_y - map.yx * middle_x - map.yy * middle_y;
  return map;
}

AffineMap map_of(Operation operation, double value, int64_t height, int64_t width) {
  switch (operation) {
    case Operation::ShearX:
      return {.xy = value};
    case Operation::ShearY:
      return {.yx = value};
    case Operation::TranslateX:
      return {.x0 = value};
    case Operation::TranslateY:
      return {.y0 = value};
    default:
      return rotation(value, height, width);
  }
}

/// Pillow's fixed point: 16 bits behind the point, from the middle of a pixel.
std::array<int64_t, 6> fixed_point(const AffineMap& map) {
  const auto fixed = [](double number) { return static_cast<int64_t>(std::floor(number * 65536 + 0.5)); };
  return {fixed(map.xx), fixed(map.xy), fixed(map.x0 + map.xx * 0.5 + map.xy * 0.5),
          fixed(map.yx), fixed(map.yy), fixed(map.y0 + map.yx * 0.5 + map.yy * 0.5)};
}

at::Tensor moved(Operation operation, const at::Tensor& images, const std::vector<double>& values,
                 const at::Tensor& fill) {
  const int64_t batch = images.size(0), height = images.size(2), width = images.size(3);
  std::vector<int64_t> numbers;
  for (double value : values) {
    const auto fixed = fixed_point(map_of(operation, value, height, width));
    numbers.insert(numbers.end(), fixed.begin(), fixed.end());
  }
  const at::Tensor map = at::tensor(numbers, at::kLong).to(images.device()).view({batch, 6, 1, 1});
  const at::Tensor x = at::arange(width, map.options()), y = at::arange(height, map.options()).view({-1, 1});
  const auto source = [&](int64_t first) {
    return map.select(1, first) * x + map.select(1, first + 1) * y + map.select(1, first + 2);
  };
  const at::Tensor from_x = source(0).bitwise_right_shift(16), from_y = source(3).bitwise_right_shift(16);
  const at::Tensor inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height);
  const at::Tensor pixel = at::where(inside, from_y * width + from_x, 0).view({batch, 1, -1});
  const at::Tensor found = at::gather(images.flatten(2), 2, pixel.expand({-1, images.size(1), -1}));
  return at::where(inside.unsqueeze(1), found.view(images.sizes()), fill);
}

// --- operations that know a pixel's shade alone: tables of 256 numbers
// ------------------------------------------------

/// How often each shade occurs: int64 [B, C, 256].
at::Tensor histograms(const at::Tensor& images) {
  const at::Tensor pixels = images.flatten(2).to(at::kLong);
  return at::zeros({images.size(0), images.size(1), shades}, pixels.options())
      .scatter_add_(2, pixels, at::ones_like(pixels));
}

/// Spreads the shades from the darkest to the lightest one over all.
at::Tensor auto_contrast_table(const at::Tensor& images, const at::Tensor& shade) {
  const at::Tensor lowest = images.flatten(2).amin(2, true).to(at::kDouble);
  const at::Tensor highest = images.flatten(2).amax(2, true).to(at::kDouble);
  const at::Tensor scale = 255 / (highest - lowest).clamp_min(1);
  const at::Tensor table = (shade * scale - lowest * scale).clamp(0, 255).to(at::kLong);
  return at::where(highest > lowest, table, shade);
}

/// Shades as often as each other, as far as whole numbers allow.
at::Tensor equalizing_table(const at::Tensor& images, const at::Tensor& shade) {
  const at::Tensor counts = histograms(images);
  const at::Tensor highest = images.flatten(2).amax(2, true).to(at::kLong);
  const at::Tensor total = counts.sum(2, true);
  const at::Tensor step = (total - counts.gather(2, highest)).floor_divide(255);
  const at::Tensor darker = counts.cumsum(2) - counts;
  const at::Tensor table = (darker + step.floor_divide(2)).floor_divide(step.clamp_min(1)).clamp_max(255);
  return at::where(step > 0, table, shade);
}

/// Pillow's mix of two images, in float32 and cut off towards zero: `start` at 0, `end` at 1.
at::Tensor blended(const at::Tensor& start, const at::Tensor& end, const at::Tensor& share) {
  const at::Tensor from = start.to(at::kFloat);
  return (from + share * (end.to(at::kFloat) - from)).clamp(0, 255).to(at::kByte);
}

/// Luminance by ITU-R 601-2 in Pillow's whole numbers: int64 [B, 1, H, W].
at::Tensor grey(const at::Tensor& images) {
  const at::Tensor channels = images.to(at::kLong);
  if (images.size(1) == 1) return channels;
  const auto part = [&](int64_t channel, int64_t weight) { return channels.narrow(1, channel, 1) * weight; };
  return (part(0, 19595) + part(1, 38470) + part(2, 7471) + 0x8000).bitwise_right_shift(16);
}

/// The images' mean grey, rounded: [B, 1, 1].
at::Tensor mean_grey(const at::Tensor& images) {
  return (grey(images).to(at::kDouble).mean({1, 2, 3}) + 0.5).floor().view({-1, 1, 1});
}

at::Tensor by_table(Operation operation, const at::Tensor& images, const at::Tensor& values) {
  const at::Tensor shade = at::arange(shades, images.options().dtype(at::kLong)).view({1, 1, -1});
  const at::Tensor value = values.view({-1, 1, 1});
  const auto table = [&]() -> at::Tensor {
    switch (operation) {
      case Operation::AutoContrast:
        return auto_contrast_table(images, shade);
      case Operation::Equalize:
        return equalizing_table(images, shade);
      case Operation::Solarize:
        return at::where(shade < value, shade, 255 - shade);
      case Operation::Posterize:
        return shade.bitwise_and((256 - (8 - value).exp2()).to(at::kLong));
      case Operation::Brightness:
        return blended(at::zeros_like(shade), shade, value);
      case Operation::Contrast:
        return blended(mean_grey(images), shade, value);
      default:
        return 255 - shade;
    }
  }();
  const at::Tensor tables = table.to(at::kByte).expand({images.size(0), images.size(1), shades});
  return at::gather(tables, 2, images.flatten(2).to(at::kLong)).view(images.sizes());
}

// --- the other two
// ----------------------------------------------------------------------------------------------------

/// The mean of each pixel (five times) and its eight neighbours, rounded; the border as it is.
at::Tensor smoothed(const at::Tensor& images) {
  const int64_t height = images.size(2), width = images.size(3);
  if (height < 3 || width < 3) return images;
  const at::Tensor pixels = images.to(at::kLong);
  const auto shifted = [&](int64_t y, int64_t x) { return pixels.narrow(2, y, height - 2).narrow(3, x, width - 2); };
  at::Tensor sum = 4 * shifted(1, 1);
  for (int64_t y = 0; y < 3; ++y) {
    for (int64_t x = 0; x < 3; ++x) sum += shifted(y, x);
  }
  at::Tensor result = images.clone();
  result.narrow(2, 1, height - 2).narrow(3, 1, width - 2).copy_((2 * sum + 13).floor_divide(26));
  return result;
}

at::Tensor applied(Operation operation, const at::Tensor& images, const std::vector<double>& values,
                   const at::Tensor& fill) {
  const at::Tensor value = at::tensor(values, at::kFloat).to(images.device());
  switch (operation) {
    case Operation::ShearX:
    case Operation::ShearY:
    case Operation::TranslateX:
    case Operation::TranslateY:
    case Operation::Rotate:
      return moved(operation, images, values, fill);
    case Operation::Color:
      return blended(grey(images), images, value.view({-1, 1, 1, 1}));
    case Operation::Sharpness:
      return blended(smoothed(images), images, value.view({-1, 1, 1, 1}));
    default:
      return by_table(operation, images, value);
  }
}

/// A colour that broadcasts over [B, C, H, W].
at::Tensor colour(const std::vector<int64_t>& fill, const at::Tensor& images) {
  return at::tensor(fill, at::kByte).to(images.device()).view({1, -1, 1, 1});
}

}  // namespace

const std::array<SubPolicy, 25>& cifar_policy() {
  using enum Operation;
  static constexpr std::array<SubPolicy, 25> policy = {{
      {{{Invert, 0.1, 7}, {Contrast, 0.2, 6}}},         {{{Rotate, 0.7, 2}, {TranslateX, 0.3, 9}}},
      {{{Sharpness, 0.8, 1}, {Sharpness, 0.9, 3}}},     {{{ShearY, 0.5, 8}, {TranslateY, 0.7, 9}}},
      {{{AutoContrast, 0.5, 8}, {Equalize, 0.9, 2}}},   {{{ShearY, 0.2, 7}, {Posterize, 0.3, 7}}},
      {{{Color, 0.4, 3}, {Brightness, 0.6, 7}}},        {{{Sharpness, 0.3, 9}, {Brightness, 0.7, 9}}},
      {{{Equalize, 0.6, 5}, {Equalize, 0.5, 1}}},       {{{Contrast, 0.6, 7}, {Sharpness, 0.6, 5}}},
      {{{Color, 0.7, 7}, {TranslateX, 0.5, 8}}},        {{{Equalize, 0.3, 7}, {AutoContrast, 0.4, 8}}},
      {{{TranslateY, 0.4, 3}, {Sharpness, 0.2, 6}}},    {{{Brightness, 0.9, 6}, {Color, 0.2, 8}}},
      {{{Solarize, 0.5, 2}, {Invert, 0.0, 3}}},         {{{Equalize, 0.2, 0}, {AutoContrast, 0.6, 0}}},
      {{{Equalize, 0.2, 8}, {Equalize, 0.6, 4}}},       {{{Color, 0.9, 9}, {Equalize, 0.6, 6}}},
      {{{AutoContrast, 0.8, 4}, {Solarize, 0.2, 8}}},   {{{Brightness, 0.1, 3}, {Color, 0.7, 0}}},
      {{{Solarize, 0.4, 5}, {AutoContrast, 0.9, 3}}},   {{{TranslateY, 0.9, 9}, {TranslateY, 0.7, 9}}},
      {{{AutoContrast, 0.9, 2}, {Solarize, 0.8, 3}}},   {{{Equalize, 0.8, 8}, {Invert, 0.1, 3}}},
      {{{TranslateY, 0.7, 9}, {AutoContrast, 0.9, 1}}},
  }};
  return policy;
}

Edit edit_of(Operation operation, int magnitude, bool negative, int64_t size) {
  const double fraction = magnitude / largest_magnitude, sign = negative ? -1 : 1;
  switch (operation) {
    case Operation::ShearX:
    case Operation::ShearY:
      return {operation, sign * 0.3 * fraction};
    case Operation::TranslateX:
    case Operation::TranslateY:  // the paper's 150 pixels are of an ImageNet image of 331
      return {operation, sign * std::trunc(150.0 / 331 * static_cast<double>(size) * fraction)};
    case Operation::Rotate:
      return {operation, sign * 30 * fraction};
    case Operation::Solarize:
      return {operation, 256 - 256 * fraction};
    case Operation::Posterize:
      return {operation, 8 - std::round(4 * fraction)};
    case Operation::Contrast:
    case Operation::Color:
    case Operation::Brightness:
    case Operation::Sharpness:
      return {operation, 1 + sign * 0.9 * fraction};
    default:
      return {operation};
  }
}

std::array<Edits, 2> drawn_edits(int64_t count, int64_t size, uint64_t seed, int64_t epoch, int64_t step) {
  const at::Generator generator = generator_of(seed, epoch, step, RandomStream::AutoAugment);
  const at::Tensor chosen = at::empty({count}, at::kLong).random_(0, std::ssize(cifar_policy()), generator);
  const at::Tensor chance = at::empty({2, count}, at::kDouble).uniform_(0, 1, generator);
  const at::Tensor sign = at::empty({2, count}, at::kLong).random_(0, 2, generator);
  const auto policies = chosen.accessor<int64_t, 1>();
  const auto chances = chance.accessor<double, 2>();
  const auto signs = sign.accessor<int64_t, 2>();
  std::array<Edits, 2> edits;
  for (size_t stage = 0; stage < edits.size(); ++stage) {
    const auto row = static_cast<int64_t>(stage);
    for (int64_t image = 0; image < count; ++image) {
      const PolicyStep& drawn = cifar_policy()[static_cast<size_t>(policies[image])][stage];
      std::optional<Edit> edit;
      if (chances[row][image] < drawn.probability) {
        edit = edit_of(drawn.operation, drawn.magnitude, signs[row][image] == 1, size);
      }
      edits[stage].push_back(edit);
    }
  }
  return edits;
}

at::Tensor edited(const at::Tensor& images, const Edits& edits, const std::vector<int64_t>& fill) {
  at::Tensor result = images.clone(at::MemoryFormat::Contiguous);
  for (Operation operation : operations) {
    std::vector<int64_t> chosen;
    std::vector<double> values;
    for (size_t image = 0; image < edits.size(); ++image) {
      if (!edits[image] || edits[image]->operation != operation) continue;
      chosen.push_back(static_cast<int64_t>(image));
      values.push_back(edits[image]->value);
    }
    if (chosen.empty()) continue;
    const at::Tensor index = at::tensor(chosen, at::kLong).to(images.device());
    result.index_copy_(0, index, applied(operation, images.index_select(0, index), values, colour(fill, images)));
  }
  return result;
}

at::Tensor auto_augmented(const at::Tensor& images, const std::vector<int64_t>& fill, uint64_t seed, int64_t epoch,
                          int64_t step, int64_t first, std::optional<int64_t> whole) {
  at::Tensor result = images;
  for (const Edits& edits : drawn_edits(whole.value_or(images.size(0)), images.size(3), seed, epoch, step)) {
    const auto begin = edits.begin() + first;
    result = edited(result, Edits(begin, begin + images.size(0)), fill);
  }
  return result;
}

at::Tensor drawn_centres(int64_t count, int64_t height, int64_t width, uint64_t seed, int64_t epoch, int64_t step) {
  const at::Generator generator = generator_of(seed, epoch, step, RandomStream::Cutout);
  at::Tensor centres = at::empty({2, count}, at::kLong);
  centres[0].random_(0, height, generator);
  centres[1].random_(0, width, generator);
  return centres;
}

at::Tensor cut_out(const at::Tensor& images, int64_t side, const at::Tensor& centres,
                   const std::vector<int64_t>& fill) {
  const at::Tensor first = centres.to(images.device()).unsqueeze(2) - side / 2;  // [2, B, 1]
  const auto within = [&](int64_t axis, int64_t size) {
    const at::Tensor place = at::arange(size, first.options());
    return (place >= first[axis]) & (place < first[axis] + side);
  };
  const at::Tensor inside = within(0, images.size(2)).unsqueeze(2) & within(1, images.size(3)).unsqueeze(1);
  return at::where(inside.unsqueeze(1), colour(fill, images), images);
}

}  // namespace mma::examples
