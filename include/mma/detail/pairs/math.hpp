// The scalar formulas of pairs of rows, and the constants that decide what they mean: written once, compiled for the
// host and, as the text `math_source`, by NVRTC for a GPU. Angles are radians, rows are unit vectors a and b.
// The angle is 2 atan2(|a - b|, |a + b|), which keeps its relative accuracy down to the smallest one.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace mma::detail::pairs {

/// The bits of a number: what NaN and Inf are told by, because a compiler that is told that there are none (-Ofast)
/// takes comparisons with them for granted.
inline long long double_bits(double value) {
  long long bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline double not_a_number() {
  const long long bits = 0x7ff8000000000000LL;
  double value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Comments and line ends do not reach the text. For NVRTC, before it stand double_bits and not_a_number, and `inline`
// is a macro that makes a function one of the device (see nearest/cuda/source.hpp).
#define MMA_ON_BOTH_SIDES(...) \
  __VA_ARGS__                  \
  inline constexpr const char* math_source = #__VA_ARGS__;

MMA_ON_BOTH_SIDES(
    constexpr double pi = 3.14159265358979323846;

    // Below this norm a row counts as zero and has no direction: the smallest normal float32. Norms are float64, so
    // that rows of 1e-30 are not zero.
    constexpr double zero_norm = 1.17549435082228750797e-38;

    // A row whose nearest is nearer than this, or as near to its antipode, is looked at in float64 among all that the
    // search cannot tell apart: there a cosine's rounding is more of an angle than the bound allows.
    constexpr double near_angle = 0.1;

    // On unit vectors |a - b| up to this is rounding: exact duplicates (|a + b| up to this: antipodes). 8 epsilon of
    // the type that rows are computed in.
    constexpr double duplicate_of_float = 8 * 1.1920928955078125e-7;
    constexpr double duplicate_of_double = 8 * 2.220446049250313e-16;

    inline bool is_finite(double value) { return (double_bits(value) & 0x7ff0000000000000LL) != 0x7ff0000000000000LL; }

    inline bool is_nan(double value) { return (double_bits(value) & 0x7fffffffffffffffLL) > 0x7ff0000000000000LL; }

    // Not for NaN, which a plain comparison may take for equal.
    inline bool is_zero(double value) { return (double_bits(value) & 0x7fffffffffffffffLL) == 0; }

    // A row with NaN or Inf counts: it makes the loss NaN, as everywhere in LibTorch. It takes no part in pairs.
    inline bool counts_as_row(double norm) { return !is_finite(norm) || norm >= zero_norm; }

    inline bool takes_part(double norm) { return is_finite(norm) && norm >= zero_norm; }

    // f of l = mean_i f(theta_i): f(theta) = of_angle theta + of_cosine cos theta, so -theta is Eq 6, cos theta Eq 5.
    // half_space: theta is the angle between lines, min(theta, pi - theta). closest_only: l is f of the one closest
    // pair.
    struct Objective {
      double of_angle;
      double of_cosine;
      bool half_space;
      bool closest_only;
    };

    // |a - b| and |a + b|.
    struct Lengths {
      double difference;
      double sum;
    };

    // From the angle between two rows.
    inline Lengths lengths_of(double angle) {
      const Lengths lengths = {2 * sin(angle / 2), 2 * cos(angle / 2)};
      return lengths;
    }

    inline double angle_of(double difference, double sum, double duplicate) {
      return difference <= duplicate ? 0 : sum <= duplicate ? pi : 2 * atan2(difference, sum);
    }

    // What decides which row is nearest: the angle, between lines that of the nearer end. Of a line's two ends neither
    // is nearer, so the other end's angle is made of its own lengths: pi - angle would round.
    inline double deciding_angle(Lengths lengths, double duplicate, bool half_space) {
      const bool other_end = half_space && lengths.sum < lengths.difference;
      return other_end ? angle_of(lengths.sum, lengths.difference, duplicate)
                       : angle_of(lengths.difference, lengths.sum, duplicate);
    }

    inline double folded(double angle, bool half_space) { return half_space && angle > pi / 2 ? pi - angle : angle; }

    // Of the angle that decides; a row without a nearest one has one above pi, or none at all.
    inline bool needs_look(double angle) { return angle < near_angle || (angle > pi - near_angle && angle < 4); }

    // f at the angle between two rows, from 0 to pi, and its derivative by that angle.
    inline double value_at(Objective f, double angle) {
      const double theta = folded(angle, f.half_space);
      return f.of_angle * theta + (f.of_cosine != 0 ? f.of_cosine * cos(theta) : 0);
    }

    inline double slope_at(Objective f, double angle) {
      const double theta = folded(angle, f.half_space);
      const double slope = f.of_angle - (f.of_cosine != 0 ? f.of_cosine * sin(theta) : 0);
      return f.half_space && angle > pi / 2 ? -slope : slope;
    }

    // The coordinate axis along which exact duplicates i and j of a matrix part: the same for (i, j) and (j, i). A row
    // that points along it, |a_k| > 0.9, takes the next one.
    inline long long first_parting_axis(long long i, long long j, long long dimension) {
      return ((i < j ? i : j) * 73856093 + (i < j ? j : i) * 19349663) % dimension;
    }

    // What -weight theta of the pair (i, j) adds to the gradient: to row i unit a + other b, to row j unit b + other a,
    // each over its norm. Rows without a tangent part along one axis: to row i parting_unit a, and parting at the axis;
    // to row j the same times mirror, -1 for duplicates, 1 for antipodes.
    struct PairTerms {
      double unit;
      double other;
      double parting;
      double parting_unit;
      double mirror;
      long long axis;
    };

    // The tangent at a towards b is (b - a cos)/sin. Its cosine comes from |a - b|, beyond a right angle from |a + b|,
    // without cancellation. entry(k) is a_k. A positive weight drives exact duplicates apart, a negative one antipodes,
    // which are duplicates as lines; for d = 1 there is no tangent and nothing to add.
    template <typename Entry> inline PairTerms pair_terms(Lengths lengths, double weight, long long i, long long j,
                                                          long long dimension, double duplicate, const Entry& entry) {
      PairTerms terms = {0, 0, 0, 0, -1, 0};
      const double difference = lengths.difference;
      const double sum = lengths.sum;
      if (difference > duplicate && sum > duplicate) {
        const double minus_cosine = difference <= sum ? difference * difference / 2 - 1 : 1 - sum * sum / 2;
        terms.other = weight / (difference * sum / 2);
        terms.unit = minus_cosine * terms.other;
        return terms;
      }
      const bool duplicates = difference <= duplicate;
      long long axis = first_parting_axis(i, j, dimension);
      if (fabs(entry(axis)) > 0.9) {
        axis = (axis + 1) % dimension;
      }
      const double along = entry(axis);
      const double rest = 1 - along * along;
      terms.axis = axis;
      if ((duplicates ? weight > 0 : weight < 0) && rest > 1e-12) {
        terms.parting = fabs(weight) * (i < j || !duplicates ? 1 : -1) / sqrt(rest);
        terms.parting_unit = -along * terms.parting;
        terms.mirror = duplicates ? -1 : 1;
      }
      return terms;
    })

#undef MMA_ON_BOTH_SIDES

}  // namespace mma::detail::pairs
