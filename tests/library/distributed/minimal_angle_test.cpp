// mma::DistributedMinimalAngle on 1, 2 and 4 processes against the paper's formula of the whole matrix, loops in
// extended precision: who is nearest wherever it lies, the value, the gradient of each process's rows, and what the
// library means by duplicates, zero rows and NaN.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
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
using distributed::relative_error;
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
    return tensor_of(
        {result.begin() + static_cast<std::ptrdiff_t>(begin), result.begin() + static_cast<std::ptrdiff_t>(end)}, n,
        static_cast<int64_t>(dimension));
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
    const Real angle =
        reference::folded(reference::angle_between(given.rows[r], given.rows[given.chosen(r)]), half_space);
    ASSERT_LE(angle - best, best < 0.1L ? static_cast<Real>(duplicate) + 1e-5L * best
                            : is_double ? 1e-9L
                                        : 1e-4L)
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

/// A matrix of a family, or undefined, in all ways of laying it on the processes.
void expect_formula(const Group& group, const matrices::Family& family, int64_t n, int64_t d, at::ScalarType type) {
  const at::Generator random = at::detail::createCPUGenerator(static_cast<uint64_t>(n));
  const at::Tensor made = family.make(n, d, random);
  if (!made.defined()) return;
  for (const Split& split : splits(n, group->getSize())) {
    SCOPED_TRACE(family.name + " [" + std::to_string(n) + ", " + std::to_string(d) + "], " + split.name);
    expect_formula(group, made.to(type), split, n % 2 == 0, std::max<int64_t>(1, n * 2 / 3));
  }
}

/// Random ones of all shapes, up to one of many tiles and one whose products are summed in parts.
void expect_formula_of_shapes(const Group& group, at::ScalarType type, const std::vector<int64_t>& sizes) {
  const matrices::Family random = matrices::families().front();
  for (const int64_t n : sizes) {
    for (const int64_t d : {std::max<int64_t>(1, n / 3), n, 2 * n + 1}) expect_formula(group, random, n, d, type);
  }
  expect_formula(group, random, 20, 1100, type);
}

void expect_formula_of_all_families(const Group& group, at::ScalarType type) {
  for (const auto& family : matrices::families()) {
    expect_formula(group, family, 20, 24, type);
    expect_formula(group, family, 47, 9, type);
  }
}

TEST(DistributedMinimalAngle, IsTheFormulaOfAllShapes) {
  on_all_counts([](const Group& group) { expect_formula_of_shapes(group, at::kFloat, {1, 2, 3, 7, 33, 101, 257}); });
  on_processes(2, [](const Group& group) { expect_formula_of_shapes(group, at::kDouble, {2, 7, 33}); });
}

TEST(DistributedMinimalAngle, IsTheFormulaWhereRowsAreTiedOrNear) {
  on_processes(1, [](const Group& group) { expect_formula_of_all_families(group, at::kFloat); });
  on_processes(4, [](const Group& group) { expect_formula_of_all_families(group, at::kFloat); });
  on_processes(2, [](const Group& group) { expect_formula_of_all_families(group, at::kDouble); });
}

/// In an odd ring no two processes are opposite.
TEST(DistributedMinimalAngle, IsTheFormulaOnThreeProcesses) {
  on_processes(3, [](const Group& group) {
    expect_formula_of_shapes(group, at::kFloat, {1, 2, 7, 101});
    expect_formula_of_all_families(group, at::kDouble);
  });
}

/// The search of any device but a CPU, here on a CPU.
void in_libtorchs_operations() {
  mma::detail::nearest::block_search_maker() = [](const auto& own, bool half_space) {
    return std::make_unique<mma::detail::nearest::portable::BlockSearch>(own, half_space);
  };
}

/// Of many tiles too.
TEST(DistributedMinimalAngle, IsTheFormulaInLibTorchsOperationsToo) {
  on_processes(2, [](const Group& group) {
    in_libtorchs_operations();
    for (const auto type : {at::kFloat, at::kDouble}) {
      expect_formula_of_all_families(group, type);
      for (const int64_t n : {1, 2, 7}) expect_formula(group, matrices::families().front(), n, n, type);
    }
    expect_formula(group, matrices::families().front(), 2100, 3, at::kFloat);
  });
}

/// Where float32 products may be bfloat16's, every row is looked at in float64.
TEST(DistributedMinimalAngle, IsTheFormulaUnderMediumPrecision) {
  on_processes(2, [](const Group& group) {
    at::globalContext().setFloat32MatmulPrecision("medium");
    for (const auto& family : matrices::families()) expect_formula(group, family, 47, 9, at::kFloat);
  });
}

at::Tensor normal(int64_t n, int64_t d, uint64_t seed) {
  return matrices::normal(n, d, at::detail::createCPUGenerator(seed));
}

TEST(DistributedMinimalAngle, OfEqualRowsOnAllProcessesTheFirstIsGiven) {
  on_all_counts([](const Group& group) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      at::Tensor rows = normal(40, 9, 3).to(type);
      for (const int64_t r : {8, 21, 22, 39}) rows[r] = rows[3] * (r == 22 ? 3 : 1);
      for (const Split& split : splits(40, group->getSize())) {
        const at::Tensor nearest =
            all_rows(nearest_of(group, shard_of(rows, split, group), split, false, 7), split, group);
        EXPECT_EQ(nearest[3].item<int64_t>(), 8);
        for (const int64_t r : {8, 21, 22, 39}) EXPECT_EQ(nearest[r].item<int64_t>(), 3) << split.name;
      }
    }
  });
}

/// At right angles all cosines are 0 to the last bit.
void expect_the_first_of_all(const Group& group) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor rows = at::eye(11, type);
    for (const Split& split : splits(11, group->getSize())) {
      const at::Tensor nearest =
          all_rows(nearest_of(group, shard_of(rows, split, group), split, false, 2), split, group);
      EXPECT_EQ(nearest[0].item<int64_t>(), 1);
      for (int64_t r = 1; r < 11; ++r) EXPECT_EQ(nearest[r].item<int64_t>(), 0) << split.name;
    }
  }
}

TEST(DistributedMinimalAngle, OfRowsEquallyFarTheFirstIsGiven) {
  on_all_counts(expect_the_first_of_all);
  on_processes(3, [](const Group& group) {
    in_libtorchs_operations();
    expect_the_first_of_all(group);
  });
}

/// More copies than the search looks at one by one.
TEST(DistributedMinimalAngle, ACrowdOfEqualRowsChoosesTheFirst) {
  on_all_counts([](const Group& group) {
    const at::Tensor rows = at::cat({normal(1, 5, 4).expand({60, 5}), normal(4, 5, 5)}).to(at::kFloat);
    for (const Split& split : splits(64, group->getSize())) {
      const at::Tensor nearest =
          all_rows(nearest_of(group, shard_of(rows, split, group), split, false, 16), split, group);
      EXPECT_EQ(nearest[0].item<int64_t>(), 1);
      for (int64_t r = 1; r < 60; ++r) EXPECT_EQ(nearest[r].item<int64_t>(), 0) << split.name;
    }
  });
}

TEST(DistributedMinimalAngle, EqualRowsOfDifferentProcessesPart) {
  on_all_counts([](const Group& group) {
    const at::Tensor row = normal(1, 6, 6)[0];
    const at::Tensor matrix = at::stack({row, 3 * row, -row, -row / 2});  // two pairs, whose rows point apart
    for (const Split& split : splits(4, group->getSize())) {
      const Term term = term_of(mma::DistributedMinimalAngle(group), shard_of(matrix, split, group));
      EXPECT_EQ(term.value, 0);
      const at::Tensor pulls = all_rows(term.gradient, split, group) * matrix.norm(2, {1}, true);
      for (const int64_t r : {0, 2}) {
        // Each is chosen by the other and pushes as hard: 1/n twice, at a right angle, in opposite directions.
        EXPECT_NEAR(pulls[r].norm().item<double>(), 2.0 / 4, 1e-12);
        EXPECT_NEAR(pulls[r].dot(row).item<double>(), 0, 1e-12);
        EXPECT_LT((pulls[r] + pulls[r + 1]).norm().item<double>(), 1e-12);
      }
    }
  });
}

TEST(DistributedMinimalAngle, ADescentSeparatesAClusterOverProcesses) {
  on_processes(2, [](const Group& group) {
    at::Tensor shard = at::ones({group->getRank() == 0 ? 2 : 3, 6}, at::kDouble).requires_grad_();
    const mma::DistributedMinimalAngle objective(group);
    for (int step = 0; step < 120; ++step) {
      shard.mutable_grad() = at::Tensor();
      objective(shard).backward();
      const at::NoGradGuard no_grad;
      shard -= 0.2 * shard.grad();
    }
    EXPECT_LT(objective(shard).item<double>(), -1.5);  // on the way to the simplex of five, 1.82
  });
}

TEST(DistributedMinimalAngle, NearDuplicatesOfAnotherProcessPullAsHardAsOthers) {
  on_processes(2, [](const Group& group) {
    for (const double angle : {1e-1, 1e-3, 1e-5}) {
      const at::Tensor a = at::tensor({1.0, 0.0, 0.0}, at::kDouble);
      const at::Tensor b = at::tensor({std::cos(angle), std::sin(angle), 0.0}, at::kDouble);
      const at::Tensor shard = (group->getRank() == 0 ? 2 * a : b).unsqueeze(0).to(at::kFloat);
      const Term term = term_of(mma::DistributedMinimalAngle(group), shard);
      EXPECT_NEAR(term.value, -angle, 1e-2 * angle);
      EXPECT_NEAR(term.gradient.norm().item<double>(), group->getRank() == 0 ? 0.5 : 1, 1e-5);
    }
  });
}

TEST(DistributedMinimalAngle, ZeroRowsCountNowhere) {
  on_all_counts([](const Group& group) {
    at::Tensor rows = normal(12, 5, 7);
    for (const int64_t r : {0, 5, 6, 11}) rows[r].zero_();
    const at::Tensor kept = rows.index_select(0, at::tensor({1, 2, 3, 4, 7, 8, 9, 10}, at::kLong));
    const at::Tensor expected = at::zeros_like(rows).index_put({at::tensor({1, 2, 3, 4, 7, 8, 9, 10}, at::kLong)},
                                                               reference::minimal_angle_gradient(kept));
    for (const Split& split : splits(12, group->getSize())) {
      const Term term = term_of(mma::DistributedMinimalAngle(group), shard_of(rows, split, group));
      EXPECT_NEAR(term.value, reference::minimal_angle_loss(kept), 1e-12);
      EXPECT_LT(relative_error(term.gradient, shard_of(expected, split, group)), 1e-10);
    }
  });
}

TEST(DistributedMinimalAngle, FewerThanTwoRowsAreWorthNothing) {
  on_all_counts([](const Group& group) {
    at::Tensor rows = at::zeros({4, 3}, at::kDouble);
    for (const bool one : {false, true}) {
      if (one) rows[2].fill_(2);
      for (const Split& split : splits(4, group->getSize())) {
        const Term term = term_of(mma::DistributedMinimalAngle(group), shard_of(rows, split, group));
        EXPECT_EQ(term.value, 0);
        EXPECT_EQ(term.gradient.abs().sum().item<double>(), 0);
      }
    }
    const at::Tensor none = at::zeros({0, 3}).requires_grad_();  // on all processes
    EXPECT_EQ(mma::DistributedMinimalAngle(group)(none).item<double>(), 0);
    EXPECT_EQ(mma::DistributedMinimalAngle(group)(at::zeros({2, 0})).item<double>(), 0);
  });
}

TEST(DistributedMinimalAngle, OneProcessesNaNIsEveryProcessesNaN) {
  on_all_counts([](const Group& group) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      at::Tensor rows = normal(9, 4, 8);
      rows[8][1] = bad;
      for (const Split& split : splits(9, group->getSize())) {
        const Term term = term_of(mma::DistributedMinimalAngle(group), shard_of(rows, split, group));
        EXPECT_TRUE(std::isnan(term.value));
        // What has a neighbour moves with the loss, so that a training notices wherever it looks.
        if (split.count(group->getRank()) > 1) {
          EXPECT_TRUE(term.gradient.isnan().any().item<bool>());
        }
      }
    }
  });
}

TEST(DistributedMinimalAngle, TinyAndHugeRowsAreNoZeros) {
  on_all_counts([](const Group& group) {
    const at::Tensor rows = normal(12, 5, 9);
    const at::Tensor scales =
        at::tensor({1e-30, 1.0, 1e30, 1e-20, 1e15, 3.0, 1e-3, 1e20, 1e-30, 7.0, 1e30, 1e-10}, at::kDouble);
    const at::Tensor scaled = (rows * scales.unsqueeze(1)).to(at::kFloat);
    for (const Split& split : splits(12, group->getSize())) {
      const auto value = mma::DistributedMinimalAngle(group)(shard_of(scaled, split, group)).item<double>();
      EXPECT_NEAR(value, reference::minimal_angle_loss(rows), 1e-5);
    }
  });
}

TEST(DistributedMinimalAngle, HalvesAreComputedInFloat32AndGetTheirGradientInTheirType) {
  on_all_counts([](const Group& group) {
    for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
      const at::Tensor rows = normal(33, 8, 10).to(type);
      for (const Split& split : splits(33, group->getSize())) {
        const at::Tensor weight = shard_of(rows, split, group).requires_grad_();
        const at::Tensor value = mma::DistributedMinimalAngle(group)(weight);
        value.backward();
        EXPECT_EQ(value.scalar_type(), at::kFloat);
        EXPECT_NEAR(value.item<double>(), reference::minimal_angle_loss(rows), 1e-6);
        ASSERT_EQ(weight.grad().scalar_type(), type);
        const at::Tensor expected = shard_of(reference::minimal_angle_gradient(rows), split, group);
        EXPECT_LT(relative_error(weight.grad(), expected), type == at::kHalf ? 1e-3 : 8e-3);
      }
    }
  });
}

TEST(DistributedMinimalAngle, ViewsAndFactorsAreThoseOfAnyTensor) {
  on_processes(2, [](const Group& group) {
    const at::Tensor rows = normal(14, 6, 11);
    const Split split = splits(14, 2)[0];
    const at::Tensor wide =
        at::cat({shard_of(rows, split, group), normal(7, 6, 12)}, 1).t().contiguous().requires_grad_();
    (2.5 * mma::DistributedMinimalAngle(group)(wide.t().narrow(1, 0, 6))).backward();
    const at::Tensor expected = 2.5 * shard_of(reference::minimal_angle_gradient(rows), split, group);
    EXPECT_LT(relative_error(wide.grad().t().narrow(1, 0, 6), expected), 1e-10);
    EXPECT_EQ(wide.grad().t().narrow(1, 6, 6).abs().sum().item<double>(), 0);
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(mma::DistributedMinimalAngle(group)(wide.t().narrow(1, 0, 6)).requires_grad());
  });
}

TEST(DistributedMinimalAngle, EveryProcessHasTheSameBitsTimeAfterTime) {
  on_processes(4, [](const Group& group) {
    const at::Tensor rows = normal(101, 7, 13).to(at::kFloat);
    const Split split = splits(101, 4)[0];
    const mma::DistributedMinimalAngle objective(group);
    const Term first = term_of(objective, shard_of(rows, split, group)),
               again = term_of(objective, shard_of(rows, split, group));
    EXPECT_EQ(first.value, again.value);
    EXPECT_TRUE(at::equal(first.gradient, again.gradient));
    std::vector<at::Tensor> sum{at::scalar_tensor(first.value, at::kDouble)};
    group->allreduce(sum)->wait();
    EXPECT_EQ(sum[0].item<double>(), 4 * first.value);
  });
}

TEST(DistributedMinimalAngle, ABackendAloneWillDo) {
  on_processes(2, [](const Group& group) {
    const at::Tensor rows = normal(10, 4, 14);
    const mma::Processes processes(group->getBackend(c10::DeviceType::CPU));
    EXPECT_EQ(processes.rank(), group->getRank());
    EXPECT_EQ(processes.size(), 2);
    const Term term = term_of(mma::DistributedMinimalAngle(processes), shard_of(rows, splits(10, 2)[1], group));
    EXPECT_NEAR(term.value, reference::minimal_angle_loss(rows), 1e-12);
  });
}

/// One process's mistake ends all of them with a sentence, and nothing is left on its way.
TEST(DistributedMinimalAngle, AMistakeOfOneProcessIsAnErrorOfAll) {
  on_processes(2, [](const Group& group) {
    const bool second = group->getRank() == 1;
    const mma::DistributedMinimalAngle objective(group);
    const auto message = [&](const at::Tensor& shard) { return message_of([&] { objective(shard); }); };
    EXPECT_EQ(message(at::ones({3, second ? 5 : 4})),
              "mma: process 1 has rows of dimension 5, process 0 has 4; expected the same on all processes.");
    EXPECT_EQ(message(at::ones({3, 4}, second ? at::kDouble : at::kFloat)),
              "mma: process 1 has rows of type Double, process 0 has Float; expected the same on all processes.");
    EXPECT_EQ(message(at::ones({3, 4}).requires_grad_(second)),
              "mma: process 1 has requires_grad true, process 0 has false; expected the same on all processes.");
    EXPECT_EQ(
        message(at::ones({3, 4}, second ? at::kLong : at::kFloat)),
        second ? "mma: layer 'DistributedMinimalAngle' has a weight of type Long; expected float16, bfloat16, float32 "
                 "or float64."
               : "mma: process 1 cannot take part; expected what it says about its own tensors to be mended there.");
    EXPECT_NE(message(second ? at::ones({3, 4, 5}) : at::ones({3, 4}))
                  .find(second ? "expected [rows, dimension]" : "process 1"),
              std::string::npos);
    const at::Tensor rows = normal(10, 4, 15);
    EXPECT_NEAR(objective(shard_of(rows, splits(10, 2)[0], group)).item<double>(), reference::minimal_angle_loss(rows),
                1e-12);
  });
}

TEST(DistributedMinimalAngle, SaysWhatItCannotDo) {
  on_processes(1, [](const Group& group) {
    const at::Tensor weight = normal(5, 4, 16).requires_grad_();
    const at::Tensor value = mma::DistributedMinimalAngle(group)(weight);
    EXPECT_NE(message_of([&] {
                torch::autograd::grad({value}, {weight}, {}, true, /*create_graph=*/true);
              }).find("gradient of its gradient"),
              std::string::npos);
    EXPECT_EQ(message_of([&] { mma::DistributedMinimalAngle(group).block_rows(0); }),
              "mma: DistributedMinimalAngle::block_rows got 0; expected 1 or more.");
    EXPECT_EQ(message_of([] { mma::Processes{Group()}; }),
              "mma: Processes got no process group; expected a c10d::ProcessGroup.");
  });
}

}  // namespace
