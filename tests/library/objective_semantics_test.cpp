// The README's semantics for every objective: duplicates, zero, tiny and huge rows, NaN, precision, layout, memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <mma/mma.hpp>

#include "../peak_memory.hpp"
#include "../sanitizers.hpp"
#include "objective_formulas.hpp"

namespace {

using measured::random_rows;
using measured::relative_error;
using measured::value_and_gradient;
using reference::Case;
using reference::Real;
using reference::Rows;

bool is_centred(const Case& entry) { return entry.name.rfind("Centred", 0) == 0; }
bool draws(const Case& entry) { return entry.name == "SpectralIsometry"; }

bool parts(const Case& entry) { return entry.parts; }
bool directions(const Case& entry) { return entry.directions; }

at::Tensor loss(const Case& entry, const at::Tensor& weight) { return measured::loss(entry.make(), weight); }
at::Tensor gradient(const Case& entry, const at::Tensor& weight) { return measured::gradient(entry.make(), weight); }

FOR_EACH_OBJECTIVE(EveryObjective, DuplicatesAndAntipodesAreFiniteAndNearTheFormula, all) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    at::Tensor rows = random_rows({9, 6}, 71, type);
    rows[4].copy_(2 * rows[1]);
    rows[7].copy_(-4 * rows[1]);
    rows[8].copy_(rows[2]);
    const auto expected = static_cast<double>(entry.formula(reference::rows_of(rows)));
    EXPECT_NEAR(loss(entry, rows).item<double>() / expected, 1, 1e-5);
    const at::Tensor slopes = gradient(entry, rows);
    EXPECT_TRUE(slopes.isfinite().all().item<bool>());
    const auto [value, without] = value_and_gradient(entry.make(), rows);
    EXPECT_LT(relative_error(without, slopes), 1e-6);
  }
}

FOR_EACH_OBJECTIVE(EveryObjective, AGraphDoesNotChangeTheGradientAtDuplicates, all) {
  at::Tensor rows = random_rows({9, 6}, 72, at::kDouble);
  rows[4].copy_(2 * rows[1]);
  rows[7].copy_(-4 * rows[1]);
  const at::Tensor weight = rows.clone().requires_grad_();
  const at::Tensor first = torch::autograd::grad({loss(entry, weight)}, {weight}, {}, true, true).front();
  EXPECT_LT(relative_error(first, gradient(entry, rows)), 1e-9);
  const at::Tensor second = torch::autograd::grad({first.square().sum()}, {weight}).front();
  EXPECT_TRUE(second.isfinite().all().item<bool>());
}

double smallest_angle(const at::Tensor& rows, const Case& entry) {
  Rows w = reference::rows_of(rows);
  if (is_centred(entry)) w = reference::centred(w);
  return static_cast<double>(reference::smallest_of(
      reference::smallest(reference::units(w), entry.lines ? reference::line_angle : reference::angle)));
}

FOR_EACH_OBJECTIVE(PartingObjectives, PlainSgdSeparatesAClusterOfFive, parts) {
  for (const int64_t dimension : {2, 3, 40}) {
    const at::Tensor row = random_rows({1, dimension}, 73);
    const at::Tensor lengths = entry.lines ? at::tensor({1.0, -2.0, 3.0, -1.0, 0.5}) : at::tensor({1., 2., 3., 1., 5.});
    at::Tensor weight = (row / row.norm()) * lengths.to(at::kFloat).unsqueeze(1);
    if (is_centred(entry)) {  // equal rows, and others that hold the mean elsewhere
      weight = at::cat({(row / row.norm()).repeat({5, 1}), 2 * random_rows({4, dimension}, 74)});
    }
    const double rate = 0.1 / gradient(entry, weight).abs().max().item<double>();
    for (int step = 0; step < 200; ++step) {
      weight = weight - rate * gradient(entry, weight);
    }
    EXPECT_GT(smallest_angle(weight, entry), 2e-3) << "dimension " << dimension;
  }
}

FOR_EACH_OBJECTIVE(PartingObjectives, TwoDuplicatesMoveApartAlongOneTangent, parts) {
  at::Tensor rows = random_rows({2, 6}, 75, at::kDouble);
  if (is_centred(entry)) return;  // two centred rows are antipodes
  for (const double factor : {3.0, -3.0}) {
    if (factor < 0 && !entry.lines) continue;
    rows[1].copy_(factor * rows[0]);
    const at::Tensor slopes = gradient(entry, rows), unit = rows[0] / rows[0].norm();
    const at::Tensor first = slopes[0] * rows[0].norm(), second = slopes[1] * rows[1].norm();
    EXPECT_GT(first.norm().item<double>(), 0.1);
    EXPECT_LT(std::abs(first.dot(unit).item<double>()), 1e-9 * first.norm().item<double>());
    EXPECT_LT((first + (factor > 0 ? 1 : -1) * second).norm().item<double>(), 1e-9 * first.norm().item<double>());
  }
}

FOR_EACH_OBJECTIVE(PartingObjectives, OneDimensionHasNoTangent, parts) {
  const at::Tensor rows = at::tensor({2.0F, 3.0F, -1.0F, 0.5F}).unsqueeze(1);
  EXPECT_TRUE(loss(entry, rows).isfinite().item<bool>());
  EXPECT_EQ(gradient(entry, rows).abs().max().item<double>(), 0);
}

TEST(Energies, GradientAtDuplicatesStaysWithinItsBound) {
  // The sum over the pairs of a row: 2 / (n(n-1)) * (n-1) * s closest^(-s-1) / |w|.
  for (const auto& [s, closest] : {std::pair{0.0, 1e-3}, {1.0, 1e-3}, {2.0, 1e-3}, {2.0, 0.05}, {3.5, 1e-2}}) {
    for (const double spread : {0.0, 1e-7, 1e-5, 1e-3}) {
      const at::Tensor rows = random_rows({1, 8}, 76) * 0.2 + spread * random_rows({6, 8}, 77);
      const at::Tensor slopes = measured::gradient(mma::RieszFisher{.s = s, .closest = closest}, rows);
      const double bound = 2.0 / 6 * (s == 0 ? 1 / closest : s * std::pow(closest, -s - 1));
      EXPECT_LE((slopes.norm(2, 1) * rows.norm(2, 1)).max().item<double>(), bound * 1.0001) << s << " " << spread;
    }
  }
}

FOR_EACH_OBJECTIVE(EveryObjective, NearDuplicatesInFloat32, all) {
  for (double angle = 1e-2; angle > 0.9e-6; angle /= 10) {
    at::Tensor rows = random_rows({7, 5}, 78, at::kDouble);
    const at::Tensor a = rows[0] / rows[0].norm();
    const at::Tensor across = rows[1] - a * a.dot(rows[1]);
    rows[1].copy_(2.5 * (a * std::cos(angle) + across / across.norm() * std::sin(angle)));
    rows = rows.to(at::kFloat);
    const auto expected = static_cast<double>(entry.formula(reference::rows_of(rows)));
    EXPECT_NEAR(loss(entry, rows).item<double>() / expected, 1, 1e-5) << angle;
    const at::Tensor slopes = gradient(entry, rows).to(at::kDouble);
    const Rows w = reference::rows_of(rows);
    for (const auto& [i, k] : {std::pair<size_t, size_t>{0, 0}, {0, 3}, {1, 1}, {3, 2}}) {
      constexpr Real step = 1e-10;
      Rows up = w, down = w;
      up[i][k] += step;
      down[i][k] -= step;
      const auto slope = static_cast<double>((entry.formula(up) - entry.formula(down)) / (2 * step));
      const double found = slopes[static_cast<int64_t>(i)][static_cast<int64_t>(k)].item<double>();
      EXPECT_NEAR(found, slope,
                  1e-3 * slopes[static_cast<int64_t>(i)].norm().item<double>() + 1e-8 * std::abs(expected))
          << angle;
    }
  }
}

FOR_EACH_OBJECTIVE(EveryObjective, ZeroRowsAreLeftOut, all) {
  if (draws(entry)) return;  // draws another vector for another number of rows
  for (const int64_t dimension : {4, 12}) {
    const at::Tensor full = random_rows({7, dimension}, 79);
    at::Tensor with_zeros = at::zeros({9, dimension});
    with_zeros.slice(0, 0, 3).copy_(full.slice(0, 0, 3));
    with_zeros.slice(0, 4, 8).copy_(full.slice(0, 3, 7));
    with_zeros[8][1] = 1e-39;  // subnormal
    EXPECT_NEAR(loss(entry, with_zeros).item<double>() / loss(entry, full).item<double>(), 1, 1e-6);
    const at::Tensor slopes = gradient(entry, with_zeros), expected = gradient(entry, full);
    EXPECT_EQ(slopes[3].abs().max().item<double>() + slopes[8].abs().max().item<double>(), 0);
    EXPECT_LT(relative_error(at::cat({slopes.slice(0, 0, 3), slopes.slice(0, 4, 8)}), expected), 1e-6);
  }
}

FOR_EACH_OBJECTIVE(EveryObjective, RowsThatAreNotUsableDoNotCount, all) {
  if (draws(entry)) return;  // draws another vector for another number of rows
  for (const int64_t dimension : {4, 12}) {
    const at::Tensor rows = random_rows({1, 8, dimension}, 80, at::kDouble);
    at::Tensor usable = at::ones({1, 8}, at::kBool);
    usable[0][2] = false;
    const at::Tensor others = at::cat({rows.slice(1, 0, 2), rows.slice(1, 3, 8)}, 1);
    const auto [value, slopes] = entry.make().value_and_gradient(rows, usable, at::ones({1}, at::kDouble));
    EXPECT_NEAR(value.item<double>() / loss(entry, others).item<double>(), 1, 1e-12);
    EXPECT_EQ(slopes[0][2].abs().max().item<double>(), 0);
  }
}

FOR_EACH_OBJECTIVE(EveryObjective, FewerThanTwoUsableRowsGiveZero, all) {
  at::Tensor one_left = at::zeros({3, 4});
  one_left[1] = at::ones({4});
  for (const at::Tensor& rows : {at::ones({1, 4}), at::zeros({3, 4}), one_left}) {
    EXPECT_EQ(loss(entry, rows).item<double>(), 0);
    EXPECT_EQ(gradient(entry, rows).abs().max().item<double>(), 0);
    EXPECT_EQ(value_and_gradient(entry.make(), rows).second.abs().max().item<double>(), 0);
  }
  // Beside a matrix that has rows.
  const at::Tensor batch = at::stack({one_left, random_rows({3, 4}, 81)});
  const at::Tensor values = loss(entry, batch);
  EXPECT_EQ(values[0].item<double>(), 0);
  EXPECT_NE(values[1].item<double>(), 0);
  EXPECT_EQ(gradient(entry, batch)[0].abs().max().item<double>(), 0);
}

FOR_EACH_OBJECTIVE(EveryObjective, NanAndInfMakeTheLossNan, all) {
  for (const double bad : {std::nan(""), double{INFINITY}, -double{INFINITY}}) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      for (const int64_t dimension : {5, 9}) {
        at::Tensor rows = random_rows({2, 7, dimension}, 82, type);
        rows[0][2][3] = bad;
        const at::Tensor values = loss(entry, rows), slopes = gradient(entry, rows);
        EXPECT_TRUE(std::isnan(values[0].item<double>()));
        EXPECT_TRUE(std::isfinite(values[1].item<double>()));
        EXPECT_TRUE(slopes[1].isfinite().all().item<bool>());
        if (is_centred(entry)) continue;  // no row is left with a direction
        EXPECT_TRUE(slopes[0].isnan().any().item<bool>());
        EXPECT_TRUE(value_and_gradient(entry.make(), rows).second[0].isnan().any().item<bool>());
      }
    }
  }
  for (const double bad : {std::nan(""), double{INFINITY}}) {
    for (const auto& [n, dimension] : {std::pair<int64_t, int64_t>{3, 4}, {2, 33}, {1, 5}}) {
      at::Tensor alone = at::zeros({n, dimension});
      alone[0][2] = bad;  // the only usable row
      EXPECT_TRUE(std::isnan(loss(entry, alone).item<double>())) << bad << ' ' << n;
    }
  }
}

FOR_EACH_OBJECTIVE(ObjectivesOfDirections, DoNotFeelTheRowsLengths, directions) {
  // A row times 2^k is the same direction exactly; the gradient is over the length.
  at::Tensor rows = random_rows({9, 5}, 83);
  rows[3].copy_(rows[5]);
  const double expected = loss(entry, rows).item<double>();
  const at::Tensor slopes = gradient(entry, rows);
  for (const int power : {-50, -20, 20, 99}) {
    const double factor = std::ldexp(1.0, power);
    EXPECT_EQ(loss(entry, rows * factor).item<double>(), expected) << power;
    EXPECT_TRUE((gradient(entry, rows * factor) * factor).equal(slopes)) << power;
  }
  const at::Tensor mixed = at::exp2(at::tensor({-99.0, 0.0, 99.0, 7.0, -50.0, 1.0, 60.0, -3.0, 30.0})).unsqueeze(1);
  EXPECT_EQ(loss(entry, rows * mixed.to(at::kFloat)).item<double>(), expected);
}

FOR_EACH_OBJECTIVE(EveryObjective, TinyRowsAreNotZero, all) {
  const at::Tensor rows = random_rows({7, 5}, 84) * 1e-30;
  EXPECT_EQ(mma::detail::rows::usable_rows(rows).sum().item<int64_t>(), 7);
  const auto expected = static_cast<double>(entry.formula(reference::rows_of(rows)));
  EXPECT_NEAR(loss(entry, rows).item<double>() / expected, 1, 1e-5);
  EXPECT_TRUE(gradient(entry, rows).isfinite().all().item<bool>());
}

FOR_EACH_OBJECTIVE(EveryObjective, HalfPrecisionIsComputedInFloat32, all) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const at::Tensor rows = random_rows({33, 20}, 85, type);
    const at::Tensor value = loss(entry, rows);
    EXPECT_EQ(value.scalar_type(), at::kFloat);
    EXPECT_EQ(value.item<double>(), loss(entry, rows.to(at::kFloat)).item<double>());
    const at::Tensor slopes = gradient(entry, rows);
    EXPECT_EQ(slopes.scalar_type(), type);
    EXPECT_TRUE(slopes.equal(gradient(entry, rows.to(at::kFloat)).to(type)));
  }
  EXPECT_EQ(loss(entry, random_rows({3, 4}, 85, at::kDouble)).scalar_type(), at::kDouble);
  EXPECT_EQ(value_and_gradient(entry.make(), random_rows({3, 4}, 85)).first.scalar_type(), at::kFloat);
  EXPECT_EQ(value_and_gradient(entry.make(), random_rows({3, 4}, 85)).second.scalar_type(), at::kFloat);
}

FOR_EACH_OBJECTIVE(EveryObjective, AutocastDoesNotReachIn, all) {
  const at::Tensor rows = random_rows({1, 40, 60}, 86), usable = at::ones({1, 40}, at::kBool);
  const at::Tensor expected = entry.make()(rows, usable);
  const at::Tensor slopes = value_and_gradient(entry.make(), rows).second;
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor inside = entry.make()(rows, usable);
  const at::Tensor slopes_inside = value_and_gradient(entry.make(), rows).second;
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_TRUE(inside.equal(expected));
  EXPECT_TRUE(slopes_inside.equal(slopes));
}

// Tells the difference only on a CPU with bfloat16 products.
FOR_EACH_OBJECTIVE(ObjectivesOfDirections, ReducedMatmulPrecisionDoesNotReachIn, directions) {
  at::Tensor rows = random_rows({150, 600}, 87);
  rows[7].copy_(rows[3]);
  const at::Tensor expected = loss(entry, rows), slopes = gradient(entry, rows);
  at::globalContext().setFloat32MatmulPrecision("medium");
  const at::Tensor inside = loss(entry, rows), slopes_inside = gradient(entry, rows);
  at::globalContext().setFloat32MatmulPrecision("highest");
  EXPECT_NEAR(inside.item<double>() / expected.item<double>(), 1, 1e-5);
  EXPECT_LT(relative_error(slopes_inside, slopes), 1e-5);
}

FOR_EACH_OBJECTIVE(EveryObjective, MemoryFormatDoesNotMatter, all) {
  at::Tensor filters = random_rows({33, 4, 3, 3}, 88);
  filters[9].copy_(filters[4]);
  const auto value = [&](const at::Tensor& weight) { return loss(entry, mma::weight_rows(weight)); };
  const auto slopes = [&](const at::Tensor& weight) {
    const at::Tensor leaf = weight.detach().clone(at::MemoryFormat::Preserve).requires_grad_();
    value(leaf).backward();
    return leaf.grad();
  };
  const at::Tensor expected = value(filters), expected_slopes = slopes(filters);
  const at::Tensor padded = at::zeros({40, 8, 3, 3});
  padded.narrow(0, 5, 33).slice(1, 0, 8, 2).copy_(filters);
  for (const at::Tensor& same :
       {filters.contiguous(at::MemoryFormat::ChannelsLast), padded.narrow(0, 5, 33).slice(1, 0, 8, 2)}) {
    EXPECT_TRUE(value(same).equal(expected));
    EXPECT_TRUE(slopes(same).equal(expected_slopes));
  }
  // Columns of a matrix as rows, and a batch seen through a transposition: no copy makes these contiguous.
  const at::Tensor rows = filters.flatten(1), columns = rows.t().contiguous().t();
  EXPECT_NEAR(loss(entry, columns).item<double>() / expected.item<double>(), 1, 1e-6);
  EXPECT_LT(relative_error(gradient(entry, columns), gradient(entry, rows)), 1e-6);
  EXPECT_LT(relative_error(value_and_gradient(entry.make(), columns).second, gradient(entry, rows)), 1e-6);
  const at::Tensor batch = at::stack({rows, rows.flip(1)}, 1).transpose(0, 1);
  EXPECT_LT(relative_error(gradient(entry, batch), gradient(entry, batch.contiguous())), 1e-6);
}

FOR_EACH_OBJECTIVE(EveryObjective, TwoRunsGiveTheSameBits, all) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  at::Tensor rows = random_rows({150, 80}, 89);
  rows[40].copy_(rows[7]);
  rows[41].copy_(-rows[7]);
  EXPECT_TRUE(loss(entry, rows).equal(loss(entry, rows)));
  EXPECT_TRUE(gradient(entry, rows).equal(gradient(entry, rows)));
  at::set_num_threads(threads);
}

FOR_EACH_OBJECTIVE(EveryObjective, NothingIsWrittenToTheWeights, all) {
  at::Tensor rows = random_rows({9, 5}, 90);
  rows[4].copy_(rows[1]);
  const at::Tensor before = rows.clone();
  value_and_gradient(entry.make(), rows);
  gradient(entry, rows);
  EXPECT_TRUE(rows.equal(before));
}

TEST(Centred, ARowThatIsTheMeanIsLeftOut) {
  const at::Tensor around = at::cat({at::eye(3, 5, at::kDouble), -at::eye(3, 5, at::kDouble)});
  const at::Tensor middle = at::full({5}, 0.5, at::kDouble);
  const at::Tensor rows = at::cat({around + middle, middle.unsqueeze(0)});
  EXPECT_NEAR(mma::detail::loss_of(mma::Centred<>{}, rows, "centred").item<double>(), -std::acos(0.0), 1e-14);
  const at::Tensor slopes = measured::gradient(mma::Centred<mma::Logarithmic>{}, rows.to(at::kFloat));
  EXPECT_TRUE(slopes.isfinite().all().item<bool>());
}

TEST(Centred, MovingAllRowsTogetherChangesNothing) {
  const at::Tensor rows = random_rows({9, 5}, 91, at::kDouble);
  const mma::AnyObjective centred = mma::Centred<mma::RieszFisher>{};
  EXPECT_NEAR(measured::loss(centred, rows).item<double>() / measured::loss(centred, rows + 3).item<double>(), 1,
              1e-12);
  EXPECT_LT(measured::gradient(centred, rows).sum(0).norm().item<double>(),
            1e-12 * measured::gradient(centred, rows).norm().item<double>());
}

TEST(PairSums, NeedNoSquareMatrix) {
  if (mma::tests::has_sanitizer) GTEST_SKIP() << "the sanitizer keeps what is freed";
  // A cosine for every pair would take 144 MB; the second time a ninth of all pairs is near.
  for (const double spread : {1.0, 0.005}) {
    at::Tensor rows = random_rows({6000, 8}, 92);
    rows.narrow(0, 0, 2000).copy_(rows[0] + spread * random_rows({2000, 8}, 93));
    at::Tensor slopes;
    const auto peak = mma::tests::peak_bytes_of([&] { slopes = value_and_gradient(mma::Logarithmic{}, rows).second; });
    EXPECT_TRUE(slopes.isfinite().all().item<bool>());
    if (!peak) GTEST_SKIP() << "this system does not tell the peak of memory";
    EXPECT_LT(*peak, 100 << 20);
  }
}

TEST(PairSums, TheTensorOperationsOfOtherDevicesGiveTheNumbersOfTheLoops) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    at::Tensor rows = random_rows({1, 21}, 94, type) + 0.02 * random_rows({40, 21}, 95, type);
    rows[5].copy_(2 * rows[2]);
    rows[9].copy_(-rows[1]);
    const at::Tensor norms = mma::detail::rows::row_norms(rows);
    const at::Tensor first = at::arange(40).repeat_interleave(40), second = at::arange(40).repeat(40);
    const at::Tensor others = (first != second).nonzero().squeeze(1);
    const at::Tensor i = first.index_select(0, others), j = second.index_select(0, others);
    const at::Tensor weight = random_rows({1560}, 96, at::kDouble);
    at::Tensor loops = at::ones({40, 21}, type);
    mma::detail::pairs::add_pair_forces(loops, rows, norms, i, j, 40, weight);
    const at::Tensor parts =
        mma::detail::pairs::first_parts(rows, i, j, 40, weight) * norms.index_select(0, i).unsqueeze(1);
    const at::Tensor expected = at::ones({40, 21}, at::kDouble).index_add(0, i, parts);
    EXPECT_LT(relative_error(loops, expected), type == at::kFloat ? 1e-6 : 1e-12);
  }
}

TEST(Cuda, EveryObjectiveEqualsTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU on this machine";
  for (const Case& entry : reference::cases()) {
    at::Tensor rows = random_rows({65, 40}, 97);
    rows[30].copy_(rows[0]);
    rows[31].copy_(-rows[1]);
    EXPECT_NEAR(loss(entry, rows.cuda()).item<double>() / loss(entry, rows).item<double>(), 1, 1e-5) << entry.name;
    EXPECT_LT(relative_error(gradient(entry, rows.cuda()).cpu(), gradient(entry, rows)), 1e-4) << entry.name;
  }
}

}  // namespace
