// MinimalAngle against the paper's formula, and the README's table of semantics: each case is a test by its name.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <mma/objectives/minimal_angle.hpp>

#include <numbers>

#include "../peak_memory.hpp"
#include "reference.hpp"

namespace {

using mma::minimal_angle_loss;

struct Shape {
  int64_t rows, dimension;
};

#ifdef __FAST_MATH__
constexpr double exact = 1e-9;  // it is the reference's own arccos that is off
#else
constexpr double exact = 1e-12;
#endif

at::Tensor random_rows(int64_t rows, int64_t dimension, uint64_t seed, at::ScalarType type = at::kFloat) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn({rows, dimension}, generator, at::kDouble).to(type);
}

at::Tensor gradient_of(const at::Tensor& weight) {
  const at::Tensor leaf = weight.detach().clone(at::MemoryFormat::Preserve).requires_grad_();
  minimal_angle_loss(leaf).backward();
  return leaf.grad();
}

double relative_error(const at::Tensor& value, const at::Tensor& expected) {
  return ((value.to(at::kDouble) - expected).norm() / expected.norm().clamp_min(1e-300)).item<double>();
}

/// Two unit vectors in d dimensions at an angle, and a third far from both.
at::Tensor rows_at_angle(double angle, int64_t dimension, at::ScalarType type) {
  at::Tensor rows = at::zeros({3, dimension}, at::kDouble);
  rows[0][0] = 1;
  rows[1][0] = std::cos(angle);
  rows[1][1] = std::sin(angle);
  rows[2][2] = 1;
  return rows.to(type);
}

/// What the engine finds for rows [b, n, d], by Eq 6's angles.
mma::detail::nearest::Found found_in(const at::Tensor& rows) {
  return mma::detail::nearest::find_nearest(rows, mma::MinimalAngle{}.nearest());
}

/// The angle given for each row is that to the row given, and no other is nearer: by more than what a product's error
/// is worth, 1e-4 rad; where the row is near, relative 1e-5.
void expect_nearest(const at::Tensor& matrix) {
  const auto rows = reference::rows_of(matrix);
  const auto expected = reference::nearest(rows);
  const auto units = reference::units(rows);
  const auto found = found_in(matrix.unsqueeze(0));
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto r = static_cast<int64_t>(i);
    const auto index = static_cast<size_t>(found.nearest[r].item<int64_t>());
    ASSERT_NE(index, i);
    const auto smallest = static_cast<double>(expected.angle[i]);
    const double angle = found.angles[r].item<double>();
    ASSERT_NEAR(angle, static_cast<double>(reference::angle(units[i], units[index])), 1e-9) << "row " << i;
    ASSERT_LE(angle, smallest + (smallest < 0.1 ? 1e-5 * smallest : 1e-4)) << "row " << i;
  }
}

class Shapes : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Awkward, Shapes,
                         testing::Values(Shape{2, 1}, Shape{2, 2}, Shape{2, 3}, Shape{3, 2}, Shape{3, 3}, Shape{7, 3},
                                         Shape{7, 7}, Shape{7, 40}, Shape{33, 4}, Shape{33, 33}, Shape{33, 600},
                                         Shape{101, 5}, Shape{101, 101}, Shape{101, 1030}, Shape{257, 27},
                                         Shape{257, 257}, Shape{257, 513}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" + std::to_string(info.param.dimension);
                         });

TEST_P(Shapes, ValueIsEq6) {
  const auto [rows, dimension] = GetParam();
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor weight = random_rows(rows, dimension, 11, type);
    EXPECT_NEAR(minimal_angle_loss(weight).item<double>(), reference::minimal_angle_loss(weight),
                type == at::kFloat ? 1e-6 : exact);
  }
}

TEST_P(Shapes, GradientIsTheFormulas) {
  const auto [rows, dimension] = GetParam();
  if (dimension == 1) {  // no tangent, so no gradient
    EXPECT_EQ(gradient_of(random_rows(rows, 1, 12)).abs().max().item<double>(), 0);
    return;
  }
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor weight = random_rows(rows, dimension, 12, type) * 0.05;
    EXPECT_LT(relative_error(gradient_of(weight), reference::minimal_angle_gradient(weight)),
              type == at::kFloat ? 3e-6 : 1e-11);
  }
}

TEST_P(Shapes, NeighboursAreTheTrueNearest) {
  const auto [rows, dimension] = GetParam();
  expect_nearest(random_rows(rows, dimension, 13));
}

TEST(MinimalAngle, BatchIsTheMatricesOneByOne) {
  const at::Tensor batch = random_rows(5 * 33, 12, 14).reshape({5, 33, 12});
  const at::Tensor together = minimal_angle_loss(batch);
  ASSERT_EQ(together.sizes(), at::IntArrayRef({5}));
  for (int64_t b = 0; b < 5; ++b) {
    EXPECT_EQ(together[b].item<double>(), minimal_angle_loss(batch[b]).item<double>());
  }
}

TEST(MinimalAngle, GradientByFiniteDifferences) {
  const at::Tensor weight = random_rows(9, 4, 15, at::kDouble);
  const at::Tensor analytic = gradient_of(weight);
  constexpr double step = 1e-6;
  for (int64_t i = 0; i < 9; ++i) {
    for (int64_t k = 0; k < 4; ++k) {
      at::Tensor up = weight.clone(), down = weight.clone();
      up[i][k] += step;
      down[i][k] -= step;
      const double difference = (reference::minimal_angle_loss(up) - reference::minimal_angle_loss(down)) / (2 * step);
      EXPECT_NEAR(analytic[i][k].item<double>(), difference, 1e-7);
    }
  }
}

TEST(Semantics, AccuracyOfAnAngle) {
  for (double angle = 1e-6; angle < 3; angle *= 1.7) {
    const at::Tensor rows = rows_at_angle(angle, 5, at::kFloat).narrow(0, 0, 2);
    const double expected = -reference::minimal_angle_loss(rows);
    EXPECT_NEAR(-minimal_angle_loss(rows).item<double>() / expected, 1.0, 1e-5) << "angle " << angle;
  }
}

TEST(Semantics, AccuracyInFloat64) {
  for (double angle = 1e-12; angle < 3; angle *= 3.1) {
    const at::Tensor rows = rows_at_angle(angle, 5, at::kDouble).narrow(0, 0, 2);
    EXPECT_NEAR(-minimal_angle_loss(rows).item<double>() / angle, 1.0, 1e-9) << "angle " << angle;
  }
}

TEST(Semantics, NeighbourIsTheTrueOneInAClusteredMatrix) {
  // Rows so close that the float32 cosines of hundreds of pairs round to the same few numbers.
  for (const double spread : {1e-5, 1e-4, 1e-3}) {
    const at::Tensor centre = random_rows(1, 700, 16, at::kDouble);
    const at::Tensor rows = (centre + spread * random_rows(257, 700, 17, at::kDouble)).to(at::kFloat);
    const auto expected = reference::nearest(reference::rows_of(rows)).index;
    const at::Tensor nearest = found_in(rows.unsqueeze(0)).nearest;
    for (int64_t i = 0; i < 257; ++i) {
      ASSERT_EQ(nearest[i].item<int64_t>(), static_cast<int64_t>(expected[static_cast<size_t>(i)])) << "row " << i;
    }
  }
}

TEST(Semantics, NeighbourIsTheTrueOneWhereAllAnglesAreNearlyEqual) {
  // What MMA training ends in: a simplex, every angle the same up to a small disturbance.
  const int64_t n = 65;
  const at::Tensor simplex = at::eye(n, at::kDouble) - 1.0 / static_cast<double>(n);
  expect_nearest((simplex + 1e-6 * random_rows(n, n, 18, at::kDouble)).to(at::kFloat));
}

TEST(Semantics, NeighbourIsTheTrueOneWhereAllOthersAreAtTheAntipode) {
  // There a cosine of float32 is off by more than 1e-4 rad.
  at::Tensor rows = -at::ones({40, 30}, at::kDouble) + 2e-3 * random_rows(40, 30, 19, at::kDouble);
  rows[0].fill_(1);
  for (const auto type : {at::kFloat, at::kDouble}) expect_nearest(rows.to(type));
}

TEST(Semantics, NearDuplicatesKeepTheirGradient) {
  // Eq 8: each pair term pulls with 1/(n |w_i|); here rows 0 and 1 choose each other, so both terms add up.
  for (const double angle : {1.1e-6, 1e-5, 1e-3, 0.1, 1.0}) {
    at::Tensor rows = rows_at_angle(angle, 5, at::kFloat).narrow(0, 0, 2).clone();
    rows[0] *= 4;
    const at::Tensor gradient = gradient_of(rows).to(at::kDouble);
    for (int64_t i = 0; i < 2; ++i) {
      const double expected = 2.0 / (2 * rows[i].norm().item<double>());
      EXPECT_NEAR(gradient[i].norm().item<double>() / expected, 1.0, 1e-5) << "angle " << angle << ", row " << i;
    }
    EXPECT_LT(relative_error(gradient, reference::minimal_angle_gradient(rows)), 1e-4) << "angle " << angle;
  }
}

TEST(Semantics, ExactDuplicatesHaveAngleZeroAndPart) {
  at::Tensor rows = random_rows(2, 6, 19);
  rows[0] /= rows[0].norm();
  rows[1].copy_(3 * rows[0]);
  EXPECT_EQ(minimal_angle_loss(rows).item<double>(), 0.0);
  const at::Tensor gradient = gradient_of(rows).to(at::kDouble);
  const at::Tensor unit = rows[0].to(at::kDouble) / rows[0].to(at::kDouble).norm();
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_NEAR((gradient[i].norm() * rows[i].norm()).item<double>(), 1.0, 1e-5);  // 2 terms of 1/(n |w_i|)
    EXPECT_NEAR(gradient[i].dot(unit).item<double>(), 0.0, 1e-6);
  }
  const at::Tensor first = gradient[0] / gradient[0].norm(), second = gradient[1] / gradient[1].norm();
  EXPECT_LT((first + second).norm().item<double>(), 1e-5);  // t(i, j) = -t(j, i)

  at::Tensor weight = rows.clone().requires_grad_();
  minimal_angle_loss(weight).backward();
  const at::Tensor stepped = weight.detach() - 0.01 * weight.grad();
  EXPECT_GT(-minimal_angle_loss(stepped).item<double>(), 1e-3);
}

TEST(Semantics, AClusterOfFiveDuplicatesSeparates) {
  for (const int64_t dimension : {2, 3, 40}) {
    const at::Tensor row = random_rows(1, dimension, 20);
    at::Tensor weight = (row / row.norm()).repeat({5, 1}) * at::arange(1, 6).unsqueeze(1).to(at::kFloat);
    for (int step = 0; step < 100; ++step) {
      weight = weight - 0.2 * gradient_of(weight);
    }
    const auto angles = reference::nearest(reference::rows_of(weight)).angle;
    for (const auto angle : angles) {
      EXPECT_GT(angle, 0.05) << "dimension " << dimension;
    }
  }
}

TEST(Semantics, DuplicatesInOneDimensionHaveNoTangent) {
  const at::Tensor rows = at::tensor({2.0F, 3.0F, -1.0F}).unsqueeze(1);
  EXPECT_NEAR(minimal_angle_loss(rows).item<double>(), -std::numbers::pi / 3, 1e-6);
  EXPECT_EQ(gradient_of(rows).abs().max().item<double>(), 0.0);
}

TEST(Semantics, Antipodes) {
  at::Tensor rows = random_rows(2, 9, 21);
  rows[1].copy_(-2 * rows[0]);
  EXPECT_NEAR(minimal_angle_loss(rows).item<double>(), -std::numbers::pi, 1e-6);
  EXPECT_EQ(gradient_of(rows).abs().max().item<double>(), 0.0);
}

TEST(Semantics, ZeroRowsAreLeftOut) {
  const at::Tensor full = random_rows(7, 5, 22);
  at::Tensor with_zeros = at::zeros({9, 5});
  with_zeros.narrow(0, 1, 7).copy_(full);
  EXPECT_EQ(minimal_angle_loss(with_zeros).item<double>(), minimal_angle_loss(full).item<double>());
  const at::Tensor gradient = gradient_of(with_zeros);
  EXPECT_TRUE(gradient.narrow(0, 1, 7).equal(gradient_of(full)));
  EXPECT_EQ(gradient[0].abs().max().item<double>(), 0.0);
  EXPECT_EQ(gradient[8].abs().max().item<double>(), 0.0);
}

TEST(Semantics, TinyAndHugeRowsAreNotZero) {
  for (const double scale : {1e-36, 1e-30, 1e30, 1e37}) {
    at::Tensor rows = random_rows(7, 5, 23);
    const double expected = reference::minimal_angle_loss(rows);
    rows[3] *= scale;
    EXPECT_NEAR(minimal_angle_loss(rows).item<double>(), expected, 1e-6) << scale;
  }
  at::Tensor wide = random_rows(7, 5, 23, at::kDouble);
  const double expected = reference::minimal_angle_loss(wide);
  wide[3] *= 1e200;
  EXPECT_NEAR(minimal_angle_loss(wide).item<double>(), expected, 1e-12);
  EXPECT_TRUE(gradient_of(wide).isfinite().all().item<bool>());
}

TEST(Semantics, FewerThanTwoUsableRowsGiveZero) {
  at::Tensor one_left = at::zeros({3, 4});
  one_left[1] = at::ones({4});
  for (const at::Tensor& rows : {at::ones({1, 4}), at::zeros({3, 4}), one_left}) {
    EXPECT_EQ(minimal_angle_loss(rows).item<double>(), 0.0);
    EXPECT_EQ(gradient_of(rows).abs().max().item<double>(), 0.0);
  }
}

TEST(Semantics, NanAndInfMakeTheLossNan) {
  for (const double bad : {std::nan(""), double{INFINITY}, -double{INFINITY}}) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      at::Tensor rows = random_rows(7, 5, 24, type);
      rows[2][3] = bad;
      EXPECT_TRUE(mma::detail::pairs::is_nan(minimal_angle_loss(rows).item<double>()));
      EXPECT_TRUE(gradient_of(rows).isnan().any().item<bool>());
    }
  }
}

TEST(Semantics, NanBesideZeroRowsIsStillNan) {
  at::Tensor rows = at::zeros({3, 4});
  rows[1][2] = std::nan("");  // the only usable row
  EXPECT_TRUE(mma::detail::pairs::is_nan(minimal_angle_loss(rows).item<double>()));
}

TEST(Semantics, TiesGoToTheLowestIndex) {
  // Equal rows at several places: every copy is at the same angle, whatever the products' rounding says.
  const at::Tensor distinct = random_rows(6, 700, 25);
  const at::Tensor rows = distinct.repeat({20, 1}).unsqueeze(0);
  const at::Tensor found = found_in(rows).nearest;
  for (int64_t i = 0; i < 120; ++i) {
    EXPECT_EQ(found[i].item<int64_t>(), i < 6 ? i + 6 : i % 6);
  }
  // An orthonormal frame and its mirror image: all angles but one are a right one.
  const at::Tensor right = found_in(at::cat({at::eye(33), -at::eye(33)}).unsqueeze(0)).nearest;
  for (int64_t i = 0; i < 66; ++i) {
    EXPECT_EQ(right[i].item<int64_t>(), i % 33 == 0 ? 1 : 0);
  }
}

TEST(Semantics, TwoRunsGiveTheSameBits) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  at::Tensor rows = random_rows(257, 300, 26);
  rows[40].copy_(rows[7]);
  EXPECT_TRUE(minimal_angle_loss(rows).equal(minimal_angle_loss(rows)));
  EXPECT_TRUE(gradient_of(rows).equal(gradient_of(rows)));
  at::set_num_threads(threads);
}

TEST(Semantics, HalfPrecisionIsComputedInFloat32) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const at::Tensor rows = random_rows(33, 20, 27, type);
    const at::Tensor loss = minimal_angle_loss(rows);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_EQ(loss.item<double>(), minimal_angle_loss(rows.to(at::kFloat)).item<double>());
    const at::Tensor gradient = gradient_of(rows);
    EXPECT_EQ(gradient.scalar_type(), type);
    EXPECT_TRUE(gradient.equal(gradient_of(rows.to(at::kFloat)).to(type)));
  }
  EXPECT_EQ(minimal_angle_loss(random_rows(3, 4, 27, at::kDouble)).scalar_type(), at::kDouble);
}

TEST(Semantics, AutocastDoesNotReachIn) {
  const at::Tensor rows = random_rows(1500, 64, 28);  // so many that bfloat16 picks some wrong neighbours
  const at::Tensor expected = minimal_angle_loss(rows);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor product = at::mm(rows, rows.t());
  const at::Tensor inside = minimal_angle_loss(rows);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  ASSERT_EQ(product.scalar_type(), at::kBFloat16);  // autocast was on
  EXPECT_TRUE(inside.equal(expected));
}

// Tells the difference only on a CPU with bfloat16 products.
TEST(Semantics, ReducedMatmulPrecisionDoesNotReachIn) {
  const at::Tensor rows = random_rows(1500, 600, 29);
  const at::Tensor expected = minimal_angle_loss(rows);
  at::globalContext().setFloat32MatmulPrecision("medium");
  const at::Tensor inside = minimal_angle_loss(rows);
  at::globalContext().setFloat32MatmulPrecision("highest");
  EXPECT_TRUE(inside.equal(expected));
}

TEST(Semantics, MemoryFormatDoesNotMatter) {
  const at::Tensor filters = random_rows(33, 4 * 3 * 3, 31).reshape({33, 4, 3, 3});
  const auto loss = [](const at::Tensor& weight) { return minimal_angle_loss(mma::weight_rows(weight)); };
  const auto gradient = [&](const at::Tensor& weight) {
    const at::Tensor leaf = weight.detach().clone(at::MemoryFormat::Preserve).requires_grad_();
    loss(leaf).backward();
    return leaf.grad();
  };
  const at::Tensor expected = loss(filters), expected_gradient = gradient(filters);
  const at::Tensor padded = at::zeros({40, 8, 3, 3});
  padded.narrow(0, 5, 33).slice(1, 0, 8, 2).copy_(filters);
  for (const at::Tensor& same :
       {filters.contiguous(at::MemoryFormat::ChannelsLast), filters.transpose(2, 3).contiguous().transpose(2, 3),
        padded.narrow(0, 5, 33).slice(1, 0, 8, 2)}) {
    EXPECT_TRUE(loss(same).equal(expected));
    EXPECT_TRUE(gradient(same).equal(expected_gradient));
  }
}

TEST(Semantics, DoubleBackwardByFiniteDifferences) {
  const at::Tensor direction = random_rows(8, 5, 32, at::kDouble);
  const at::Tensor weight = random_rows(8, 5, 33, at::kDouble).requires_grad_();
  const at::Tensor gradient = torch::autograd::grad({minimal_angle_loss(weight)}, {weight}, {}, true, true).front();
  const at::Tensor product = torch::autograd::grad({(gradient * direction).sum()}, {weight}).front();
  constexpr double step = 1e-6;
  const at::Tensor difference = (reference::minimal_angle_gradient(weight.detach() + step * direction) -
                                 reference::minimal_angle_gradient(weight.detach() - step * direction)) /
                                (2 * step);
  EXPECT_LT(relative_error(product, difference), 1e-6);
}

TEST(Semantics, DoubleBackwardReachesTheOuterGradient) {
  // d/dg of (g * dl/dW) is dl/dW.
  const at::Tensor weight = random_rows(6, 4, 34, at::kDouble).requires_grad_();
  const at::Tensor scale = at::ones({}, at::kDouble).requires_grad_();
  const at::Tensor gradient =
      torch::autograd::grad({minimal_angle_loss(weight)}, {weight}, {scale}, true, true).front();
  const at::Tensor by_scale = torch::autograd::grad({gradient.sum()}, {scale}).front();
  EXPECT_NEAR(by_scale.item<double>(), reference::minimal_angle_gradient(weight).sum().item<double>(), 1e-10);
}

TEST(Semantics, OtherTensorsAreRefusedWithTheirName) {
  const auto message = [](const at::Tensor& tensor, const std::string& name) -> std::string {
    try {
      mma::weight_rows(tensor, {}, name);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  const std::vector<std::pair<at::Tensor, std::string>> refused = {
      {at::eye(3).to_sparse(), "sparse"},
      {at::quantize_per_tensor(at::eye(3), 0.1, 0, at::kQInt8), "quantized"},
      {at::eye(3).to(at::kComplexFloat), "ComplexFloat"},
      {at::eye(3).to(at::kLong), "Long"},
      {at::Tensor(), "undefined"},
      {at::ones({3}), "two dimensions"}};
  for (const auto& [tensor, word] : refused) {
    const std::string text = message(tensor, "block.conv7");
    EXPECT_NE(text.find("block.conv7"), std::string::npos) << word;
    EXPECT_NE(text.find(word), std::string::npos) << text;
    EXPECT_NE(text.find("expected"), std::string::npos) << text;
  }
  EXPECT_THROW(minimal_angle_loss(at::ones({2, 2, 2, 2})), c10::Error);
}

TEST(CpuLoops, GiveTheNumbersOfTheTensorOperations) {
  // Under a graph of the gradient the same formulas run as tensor operations.
  for (const auto type : {at::kFloat, at::kDouble}) {
    at::Tensor rows = random_rows(3 * 33, 21, 40, type).reshape({3, 33, 21});
    rows[0][5].copy_(2 * rows[0][2]);
    rows[1][7].zero_();
    rows[2][9].copy_(-rows[2][1]);
    rows.requires_grad_();
    const at::Tensor factors = at::rand({3}, rows.options().requires_grad(false));
    const auto gradient = [&](bool graph) {
      return torch::autograd::grad({minimal_angle_loss(rows)}, {rows}, {factors}, graph, graph).front().detach();
    };
    EXPECT_LT(relative_error(gradient(false), gradient(true).to(at::kDouble)), type == at::kFloat ? 1e-6 : 1e-13);
  }
}

TEST(NearestRows, AreTheSameForTinyAndHugeRows) {
  // Products of such rows leave float32's range.
  const at::Tensor rows = random_rows(130, 6, 51, at::kFloat);
  const auto expected = reference::nearest(reference::rows_of(rows)).index;
  const at::Tensor factors = at::tensor({1e-30, 1.0, 1e30}, at::kDouble).repeat({44}).narrow(0, 0, 130).unsqueeze(1);
  for (const at::Tensor& factor :
       {at::full({1, 1}, 1e-30, at::kDouble), at::full({1, 1}, 1e30, at::kDouble), factors}) {
    const at::Tensor nearest = found_in((rows.to(at::kDouble) * factor).to(at::kFloat).unsqueeze(0)).nearest;
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(nearest[static_cast<int64_t>(i)].item<int64_t>(), static_cast<int64_t>(expected[i])) << i;
    }
  }
}

TEST(NearestRows, NeedsNoSquareMatrix) {
  const at::Tensor rows = random_rows(20000, 8, 35);
  double value = 0;
  const auto peak = mma::tests::peak_bytes_of([&] { value = minimal_angle_loss(rows).item<double>(); });
  EXPECT_TRUE(mma::detail::pairs::is_finite(value));
  if (!peak) GTEST_SKIP() << "this system does not tell the peak of memory";
  EXPECT_LT(*peak, 200 << 20) << "20,000 x 20,000 floats are 1.6 GB";
}

TEST(Cuda, EqualsTheCpu) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no GPU on this machine";
  }
  for (const int64_t rows : {2, 33, 257}) {
    for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      at::Tensor weight = random_rows(rows, 65, 36, type);
      weight[rows / 2].copy_(weight[0]);
      const at::Tensor on_gpu = weight.cuda();
      EXPECT_NEAR(minimal_angle_loss(on_gpu).item<double>(), minimal_angle_loss(weight).item<double>(), 1e-6);
      const at::Tensor gradient = gradient_of(on_gpu);
      EXPECT_LT((gradient.cpu().to(at::kDouble) - gradient_of(weight).to(at::kDouble)).abs().max().item<double>(),
                1e-3);
      EXPECT_TRUE(gradient.equal(gradient_of(on_gpu)));
    }
  }
}

}  // namespace
