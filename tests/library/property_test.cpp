// Properties of MMA on weights drawn at random: shapes, types, layouts, groups and special rows as no list of cases has
// them. Value and gradient against the plain loop in extended precision; what scaling, turning and reordering rows must
// not change; gradients at right angles to their rows. A case is its number: MMA_PROPERTY_FIRST=n MMA_PROPERTY_CASES=1
// repeats one.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <mma/mma.hpp>
#include <random>
#include <sstream>

#include "reference.hpp"

namespace {

using reference::Real;
using reference::Rows;

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoll(text);
}

/// What the promises are of a type: how far a row's angle may be above the smallest, and what is left of a gradient.
struct Precision {
  at::ScalarType type;
  double angle, gradient;
  bool wide;  ///< holds rows of any length
};

constexpr std::array precisions = {Precision{at::kFloat, 1e-4, 3e-5, true}, Precision{at::kDouble, 1e-9, 1e-9, true},
                                   Precision{at::kBFloat16, 1e-4, 1.0 / 64, false},
                                   Precision{at::kHalf, 1e-4, 1.0 / 256, false}};

/// A weight and its rows [groups, rows, dimension], which the type holds exactly.
struct Case {
  Precision precision = precisions[0];
  mma::WeightLayout layout;
  at::Tensor rows;              ///< float64
  std::vector<int64_t> kernel;  ///< of the weight, behind its channels
  bool channels_last = false, strided = false;
  std::string special;

  std::string words() const {
    std::ostringstream text;
    text << rows.sizes() << " " << precision.type << (layout.transposed ? ", transposed" : "")
         << (channels_last ? ", channels last" : "") << (strided ? ", strided" : "") << special;
    return text.str();
  }
};

class Draw {
 public:
  explicit Draw(int64_t number) : random_(static_cast<uint64_t>(number)) {}

  int64_t whole(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }
  bool chance(double probability) { return real(0, 1) < probability; }

  at::Tensor normal(at::IntArrayRef shape) {
    at::Tensor result = at::empty(shape, at::kDouble);
    std::normal_distribution<double> distribution;
    double* data = result.mutable_data_ptr<double>();
    for (int64_t k = 0; k < result.numel(); ++k) data[k] = distribution(random_);
    return result;
  }

  Case drawn() {
    Case result;
    result.precision = precisions[static_cast<size_t>(whole(0, 3))];
    result.layout.groups = chance(0.25) ? whole(2, 4) : 1;
    result.layout.transposed = chance(0.2);
    const int64_t channels = chance(0.1) ? whole(30, 70) : whole(1, 9);
    for (int64_t k = chance(0.5) ? whole(1, 3) : 0; k > 0; --k) result.kernel.push_back(whole(1, 3));
    const int64_t dimension = channels * c10::multiply_integers(result.kernel);
    const int64_t count = chance(0.1) ? whole(40, 101) : whole(1, 20);
    result.rows = normal({result.layout.groups, count, dimension});
    for (int64_t group = 0; group < result.layout.groups; ++group) make_special(result, result.rows[group]);
    scale(result);
    result.rows = result.rows.to(result.precision.type).to(at::kDouble);
    result.channels_last = result.kernel.size() == 2 && chance(0.5);
    result.strided = !result.channels_last && chance(0.3);
    return result;
  }

 private:
  /// Rows that are nearly or quite alike, opposite, absent; all in one cone.
  void make_special(Case& drawn, at::Tensor rows) {
    const int64_t count = rows.size(0);
    if (chance(0.1)) {
      rows.copy_(rows[0] + std::pow(10.0, real(-2, 0)) * rows);
      drawn.special += ", a cone";
    }
    for (int64_t k = chance(0.4) ? whole(1, 3) : 0; k > 0; --k) {
      const int64_t one = whole(0, count - 1), other = whole(0, count - 1);
      switch (whole(0, 3)) {
        case 0:
          rows[one].zero_();
          drawn.special += ", a zero row";
          break;
        case 1:
          rows[one].copy_(rows[other] * real(0.5, 2));
          drawn.special += ", duplicates";
          break;
        case 2:
          rows[one].copy_(rows[other] * -real(0.5, 2));
          drawn.special += ", antipodes";
          break;
        default:
          rows[one].copy_(rows[other] + distance(drawn, rows[other]) * normal({rows.size(1)}));
          drawn.special += ", near duplicates";
      }
    }
  }

  /// Of near duplicates. Beside a zero row that leaves a short one, which float16 could not hold, nor its gradient.
  double distance(const Case& drawn, const at::Tensor& row) {
    const double near = std::pow(10.0, real(-6, -1));
    return drawn.precision.wide || row.any().item<bool>() ? near : 1;
  }

  void scale(Case& drawn) {
    const double decades = drawn.precision.wide ? 3 : 0.3;
    for (at::Tensor row : drawn.rows.flatten(0, 1).unbind(0)) row.mul_(std::pow(10.0, real(-decades, decades)));
  }

  std::mt19937_64 random_;
};

/// Rows or their gradient in the weight's shape and order.
at::Tensor as_weight(const Case& drawn, const at::Tensor& rows) {
  const int64_t groups = rows.size(0), count = rows.size(1), taps = c10::multiply_integers(drawn.kernel);
  std::vector<int64_t> shape = {groups * count, rows.size(2) / taps};
  at::Tensor result = rows;
  if (drawn.layout.transposed) {  // [in, out / groups, kernel...]
    result = rows.reshape({groups, count, shape[1], taps}).transpose(1, 2);
    shape = {groups * shape[1], count};
  }
  shape.insert(shape.end(), drawn.kernel.begin(), drawn.kernel.end());
  return result.reshape(shape);
}

at::Tensor weight_of(const Case& drawn) {
  at::Tensor weight = as_weight(drawn, drawn.rows).to(drawn.precision.type);
  if (drawn.channels_last) weight = weight.contiguous(at::MemoryFormat::ChannelsLast);
  if (drawn.strided) {  // every second of a larger tensor
    std::vector<int64_t> larger = weight.sizes().vec();
    larger.push_back(2);
    weight = at::zeros(larger, weight.options()).select(-1, 1).copy_(weight);
  }
  return weight.detach().requires_grad_();
}

struct Expected {
  double loss = 0, slack = 0;  ///< slack: by how much the promises let the loss differ
  double smallest = 4;         ///< angle: the direction between rows so near is known to float64's epsilon by it
  at::Tensor gradient, scale;  ///< of the rows; the size of what each gradient row adds up from
  bool is_unique = true;       ///< no row has two nearest ones within the promise, none is a duplicate or an antipode
};

/// The angle and the index of the nearest row, and the angle of the second nearest.
struct Neighbour {
  Real angle = 4, second = 4;
  size_t index = 0;
};

Neighbour neighbour_of(size_t row, const Rows& units, const std::vector<bool>& usable) {
  Neighbour found;
  for (size_t other = 0; other < units.size(); ++other) {
    if (other == row || !usable[other]) continue;
    const Real angle = reference::angle(units[row], units[other]);
    if (angle < found.angle) {
      found = {angle, found.angle, other};
    } else if (angle < found.second) {
      found.second = angle;
    }
  }
  return found;
}

/// Minus the mean, over the usable rows of all groups that have two, of the angle to the nearest (Eq 6).
Expected expected_of(const Case& drawn) {
  Expected expected{.gradient = at::zeros_like(drawn.rows),
                    .scale = at::zeros(drawn.rows.sizes().slice(0, 2), at::kDouble)};
  std::vector<Rows> groups;
  std::vector<std::vector<bool>> usable;
  Real total = 0;
  for (int64_t group = 0; group < drawn.rows.size(0); ++group) {
    groups.push_back(reference::rows_of(drawn.rows[group]));
    usable.emplace_back();
    Real here = 0;
    for (const auto& row : groups.back()) {
      usable.back().push_back(reference::norm(row) >= 1.17549435e-38L);
      here += usable.back().back() ? 1 : 0;
    }
    if (here < 2) usable.back().assign(usable.back().size(), false);
    total += here < 2 ? 0 : here;
  }
  for (size_t group = 0; group < groups.size(); ++group) {
    const Rows& rows = groups[group];
    Rows units = rows, gradient(rows.size(), std::vector<Real>(rows.front().size(), 0));
    for (size_t row = 0; row < rows.size(); ++row) {
      if (usable[group][row]) units[row] = reference::unit(rows[row]);
    }
    at::Tensor scale = expected.scale[static_cast<int64_t>(group)];
    for (size_t row = 0; row < rows.size(); ++row) {
      if (!usable[group][row]) continue;
      const Neighbour nearest = neighbour_of(row, units, usable[group]);
      const Real promise = nearest.angle < 0.1L ? 1e-5L * nearest.angle + 1e-6L : drawn.precision.angle;
      expected.loss -= static_cast<double>(nearest.angle / total);
      expected.slack += static_cast<double>(promise / total);
      expected.smallest = std::min(expected.smallest, static_cast<double>(nearest.angle));
      expected.is_unique = expected.is_unique && nearest.second > nearest.angle + 3 * promise &&
                           nearest.angle > 2e-6L && nearest.angle < 3.14L;
      if (!expected.is_unique) continue;
      for (const auto& [one, other] : {std::pair{row, nearest.index}, {nearest.index, row}}) {
        reference::add_angle_gradient(rows[one], rows[other], -1 / total, gradient[one]);
        scale[static_cast<int64_t>(one)] += static_cast<double>(1 / (total * reference::norm(rows[one])));
      }
    }
    for (size_t row = 0; row < rows.size(); ++row) {
      for (size_t k = 0; k < rows[row].size(); ++k) {
        expected.gradient[static_cast<int64_t>(group)][static_cast<int64_t>(row)][static_cast<int64_t>(k)] =
            static_cast<double>(gradient[row][k]);
      }
    }
  }
  return expected;
}

mma::Regularizer<> regularizer_of(const Case& drawn, const at::Tensor& weight) {
  mma::Regularizer<> regularizer(mma::Options().coefficient(1));
  regularizer.add("weight", weight, drawn.layout);
  return regularizer;
}

double loss_of(const Case& drawn) {
  const at::NoGradGuard no_grad;
  return regularizer_of(drawn, weight_of(drawn)).loss().item<double>();
}

/// The rows of a weight's gradient, float64.
at::Tensor gradient_rows(const Case& drawn, const at::Tensor& gradient) {
  return mma::weight_rows(gradient.to(at::kDouble), drawn.layout);
}

void expect_gradient(const Case& drawn, const Expected& expected, const at::Tensor& gradient, const char* by) {
  ASSERT_TRUE(gradient.defined()) << by;
  const at::Tensor rows = gradient_rows(drawn, gradient);
  EXPECT_TRUE(rows.isfinite().all().item<bool>()) << by;
  const at::Tensor lengths = rows.norm(2, {2}), along = (rows * drawn.rows).sum(2).abs();
  // Rows that differ in their last bits alone leave a direction that is nearly noise; what cancels leaves rounding, in
  // float16 its smallest steps.
  const double between_nearest = std::min(1e-14 / expected.smallest, 1e-6), cancelled = 1e-10;
  const double step = drawn.precision.type == at::kHalf ? 6e-8 * std::sqrt(static_cast<double>(rows.size(2))) : 0;
  const at::Tensor row_lengths = drawn.rows.norm(2, {2});
  const at::Tensor bound = (10 * drawn.precision.gradient * lengths + step) * row_lengths + between_nearest + cancelled;
  EXPECT_TRUE((along <= bound).all().item<bool>()) << by << ": not at right angles to its row";
  if (!expected.is_unique || !drawn.precision.wide) return;
  const at::Tensor difference = (rows - expected.gradient).norm(2, {2});
  const double tolerance = drawn.precision.gradient + 1e-14 / expected.smallest;
  EXPECT_TRUE((difference <= tolerance * expected.scale).all().item<bool>())
      << by << ": differs by " << (difference / expected.scale.clamp_min(1e-300)).max().item<double>();
}

/// The same case with its rows changed in a way that changes no angle.
Case changed(const Case& drawn, Draw& draw, std::string& how) {
  Case result = drawn;
  const int64_t dimension = drawn.rows.size(2);
  switch (draw.whole(0, 2)) {
    case 0: {
      how = "scaled";  // by powers of two, which no type rounds
      result.rows = drawn.rows.clone();
      for (at::Tensor row : result.rows.flatten(0, 1).unbind(0)) row.mul_(std::pow(2.0, draw.whole(-2, 2)));
      break;
    }
    case 1: {
      how = "reordered";
      std::vector<int64_t> order(static_cast<size_t>(drawn.rows.size(1)));
      for (size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int64_t>(k);
      for (size_t k = order.size(); k > 1; --k) {
        std::swap(order[k - 1], order[static_cast<size_t>(draw.whole(0, static_cast<int64_t>(k) - 1))]);
      }
      result.rows = drawn.rows.index_select(1, at::tensor(order, at::kLong));
      break;
    }
    default: {
      if (drawn.precision.type != at::kDouble) return result;
      how = "turned";
      result.rows = drawn.rows.matmul(std::get<0>(at::linalg_qr(draw.normal({dimension, dimension}))));
    }
  }
  return result;
}

void check(int64_t number) {
  Draw draw(number);
  const Case drawn = draw.drawn();
  SCOPED_TRACE("case " + std::to_string(number) + ": " + drawn.words());
  const Expected expected = expected_of(drawn);
  const double rounding = 2e-6;  // of a loss in float32
  const at::Tensor weight = weight_of(drawn);

  mma::Regularizer<> regularizer = regularizer_of(drawn, weight);
  const at::Tensor loss = regularizer.loss();
  EXPECT_NEAR(loss.item<double>(), expected.loss, expected.slack + rounding);
  if (drawn.rows.size(1) < 2) {  // nothing to compare: not in the loss
    EXPECT_FALSE(loss.requires_grad());
    return;
  }
  loss.backward();
  expect_gradient(drawn, expected, weight.grad(), "backward");
  const at::Tensor by_backward = weight.grad().clone();
  weight.mutable_grad().reset();
  regularizer.accumulate_gradient();
  expect_gradient(drawn, expected, weight.grad(), "accumulate_gradient");

  std::string how;
  const Case other = changed(drawn, draw, how);
  EXPECT_NEAR(loss_of(other), loss.item<double>(), 2 * expected.slack + rounding) << how;
}

TEST(Properties, HoldForWeightsDrawnAtRandom) {
  const int64_t first = number_from("MMA_PROPERTY_FIRST", 0), cases = number_from("MMA_PROPERTY_CASES", 10'000);
  for (int64_t number = first; number < first + cases && !HasFailure(); ++number) check(number);
}

}  // namespace
