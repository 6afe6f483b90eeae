// mma::DistributedMinimalAngle on 1, 2 and 4 processes against the paper's formula of the whole matrix, loops in extended
// precision: who is nearest wherever it lies, the value, the gradient of each process's rows, and what the library means
// by duplicates, zero rows and NaN.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <mma/distributed.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "error_message.hpp"
#include "matrices.hpp"
#include "nearest_reference.hpp"
#include "on_processes.hpp"
#include "reference.hpp"
#include "shards.hpp"

namespace {

using distributed::all_rows;
using distributed::Group;
using distributed::on_all_counts;
using distributed::on_processes;
using distributed::shard_of;
using distributed::Split;
using distributed::splits;
using measured::message_of;
using reference::Real;

/// The value and the gradient of this process's shard.
struct Term {
  double value;
  at::Tensor gradient;
};

Term term_of(const mma::DistributedMinimalAngle& objective, const at::Tensor& shard) {
  const at::Tensor weight = shard.clone().requires_grad_();
  const at::Tensor value = objective(weight);
  value.backward();
  return {value.item<double>(), weight.grad()};
}

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const double size = expected.norm().item<double>();
  return (found.to(at::kDouble) - expected).norm().item<double>() / (size > 0 ? size : 1);
}

at::Tensor tensor_of(const reference::Rows& rows, int64_t n, int64_t d) {
  at::Tensor result = at::zeros({n, d}, at::kDouble);
  auto* data = result.mutable_data_ptr<double>();
  for (const auto& row : rows) {
    for (const Real value : row) *data++ = static_cast<double>(value);
  }
  return result;
}

/// What all rows chose, and the formulas given that.
struct Given {
  reference::Rows rows;
  at::Tensor nearest;  ///< [n] int64
  bool half_space;

  size_t chosen(size_t r) const { return static_cast<size_t>(nearest[static_cast<int64_t>(r)].item<int64_t>()); }

  double value() const {
    Real sum = 0, count = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      count += reference::is_zero(rows[r]) ? 0 : 1;
      if (chosen(r) != r) sum += reference::folded(reference::angle_between(rows[r], rows[chosen(r)]), half_space);
    }
    return static_cast<double>(count < 2 ? 0 : -sum / count);
  }

  /// Eq 8 of every pair that touches rows [begin, end).
  at::Tensor gradient(size_t begin, size_t end) const {
    const size_t dimension = rows.front().size();
    reference::Rows result(rows.size(), std::vector<Real>(dimension, 0));
    Real count = 0;
    for (const auto& row : rows) count += reference::is_zero(row) ? 0 : 1;
    const auto within = [&](size_t r) { return r >= begin && r < end; };
    for (size_t i = 0; i < rows.size() && count >= 2; ++i) {
      const size_t j = chosen(i);
      if (j == i || (!within(i) && !within(j))) continue;
      const Real angle = reference::angle_between(rows[i], rows[j]);
      const Real slope = (half_space && angle > reference::pi / 2 ? 1 : -1) / count;
      reference::add_angle_gradient(rows[i], rows[j], slope, result[i]);
      reference::add_angle_gradient(rows[j], rows[i], slope, result[j]);
    }
    const auto n = static_cast<int64_t>(end - begin);
    return tensor_of({result.begin() + static_cast<std::ptrdiff_t>(begin),
                      result.begin() + static_cast<std::ptrdiff_t>(end)},
                     n, static_cast<int64_t>(dimension));
  }

  /// Of all pairs chosen; 1 where there is none.
  Real smallest_sine() const {
    Real result = 1;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (chosen(r) != r) result = std::min(result, std::sin(reference::angle_between(rows[r], rows[chosen(r)])));
    }
    return result;
  }
};

double duplicate_of(at::ScalarType type) {
  return 8 * (type == at::kDouble ? std::numeric_limits<double>::epsilon() : std::exp2(-23.0));
}

/// Who is nearest to the own rows, as the library finds it.
at::Tensor nearest_of(const Group& group, const at::Tensor& shard, const Split& split, bool half_space,
                      int64_t block_rows) {
  const mma::detail::distributed::Shards shards(group->getRank(), split.counts);
  return mma::detail::distributed::find_nearest(group, shards, shard,
                                                mma::MinimalAngle{.half_space = half_space}.nearest(), block_rows)
      ->nearest;
}

/// The rows given are the nearest but for the type's error, and value and gradient are the formulas' of them.
void expect_formula(const Group& group, const at::Tensor& matrix, const Split& split, bool half_space,
                    int64_t block_rows) {
  const at::Tensor shard = shard_of(matrix, split, group);
  const at::Tensor own = nearest_of(group, shard, split, half_space, block_rows);
  const Given given{reference::rows_of(matrix), all_rows(own, split, group), half_space};
  const bool is_double = matrix.scalar_type() == at::kDouble;
  const double duplicate = duplicate_of(matrix.scalar_type());
  const auto begin = static_cast<size_t>(split.first(group->getRank())), end = begin + static_cast<size_t>(own.size(0));
  const std::vector<Real> smallest = reference::smallest_angles(given.rows, half_space, begin, end);
  for (size_t r = begin; r < end; ++r) {
    const Real best = smallest[r - begin];
    ASSERT_LT(given.chosen(r), given.rows.size());
    ASSERT_EQ(given.chosen(r) == r, best < 0) << "row " << r;
    if (best < 0) continue;
    const Real angle = reference::folded(reference::angle_between(given.rows[r], given.rows[given.chosen(r)]), half_space);
    ASSERT_LE(angle - best, best < 0.1L ? static_cast<Real>(duplicate) + 1e-5L * best : is_double ? 1e-9L : 1e-4L)
        << "row " << r << " and " << given.chosen(r) << ", smallest " << static_cast<double>(best);
  }
  const Term term = term_of(
      mma::DistributedMinimalAngle(group, mma::MinimalAngle{.half_space = half_space}).block_rows(block_rows), shard);
  EXPECT_NEAR(term.value, given.value(), duplicate + (is_double ? 1e-12 : 1e-6));
  ASSERT_EQ(term.gradient.sizes(), shard.sizes());
  const auto sine = static_cast<double>(given.smallest_sine());
  if (sine < 2 * duplicate) return;  // which part along an axis: see below
  // A tangent is a difference of unit rows in float64.
  EXPECT_LT(relative_error(term.gradient, given.gradient(begin, end)), (is_double ? 1e-12 : 1e-6) + 1e-14 / sine);
}

void expect_formulas(const Group& group, at::ScalarType type, const std::vector<int64_t>& sizes) {
  const at::Generator random = at::detail::createCPUGenerator(1);
  for (const matrices::Family& family : matrices::families()) {
    for (const int64_t n : sizes) {
      for (const int64_t d : {std::max<int64_t>(1, n / 3), n, 2 * n + 1}) {
        if (n >= 101 && d != n / 3) continue;
        const at::Tensor made = family.make(n, d, random);
        if (!made.defined()) continue;
        for (const Split& split : splits(n, group->getSize())) {
          SCOPED_TRACE(family.name + " [" + std::to_string(n) + ", " + std::to_string(d) + "], " + split.name);
          expect_formula(group, made.to(type), split, n % 2 == 0, n < 7 ? 1 : n / 3);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(DistributedMinimalAngle, IsTheFormulaWhereverRowsLieInFloat64) {
  on_all_counts([](const Group& group) { expect_formulas(group, at::kDouble, {1, 2, 3, 7, 33, 101, 257}); });
}

TEST(DistributedMinimalAngle, IsTheFormulaWhereverRowsLieInFloat32) {
  on_all_counts([](const Group& group) { expect_formulas(group, at::kFloat, {1, 2, 3, 7, 33, 101, 257}); });
}

}  // namespace
