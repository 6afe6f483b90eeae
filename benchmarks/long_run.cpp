// Very many steps of MMA alone, from where it is hardest: duplicates, near duplicates, zero rows, random rows; float32
// and bfloat16. Nothing may become NaN, the angles must come to where they can be, and a step at the end must cost what
// one at the start does. Prints Markdown, ends with 1 where a bar is missed.
//
//   bench-long-run [STEPS]    default 100,000
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mma/mma.hpp>
#include <string>
#include <vector>

#include "measure.hpp"

namespace {

using mma::benchmarks::median;
using mma::benchmarks::milliseconds_of;

constexpr double dearest_end = 1.15;     // a step at the end against one at the start
constexpr double turn_of_a_step = 0.01;  // radians, about, at the first rate; it falls to 0 along a line

struct Start {
  std::string name;
  at::Tensor rows;
  double expected;  ///< degrees: the largest minimal angle that there is
};

double simplex_angle(int64_t rows) { return std::acos(-1.0 / static_cast<double>(rows - 1)) * 180 / M_PI; }

at::Tensor normal(int64_t rows, int64_t dimension) {
  auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(1000 * rows + dimension));
  return at::randn({rows, dimension}, generator, at::TensorOptions(at::kFloat));
}

std::vector<Start> starts() {
  const auto copies = [](int64_t different, int64_t of_each, int64_t dimension) {
    return normal(different, dimension).repeat({of_each, 1});
  };
  at::Tensor with_zeros = normal(33, 64);
  with_zeros.narrow(0, 8, 9).zero_();
  return {{"33 x 64, random", normal(33, 64), simplex_angle(33)},
          {"33 x 32, random, a simplex just fits", normal(33, 32), simplex_angle(33)},
          {"32 x 64, four rows, eight times each", copies(4, 8, 64), simplex_angle(32)},
          {"32 x 64, the same, 1e-5 apart", copies(4, 8, 64) + 1e-5 * normal(32, 64), simplex_angle(32)},
          {"33 x 64, nine rows zero", with_zeros, simplex_angle(24)},
          {"24 x 3, random (the snub cube)", normal(24, 3), 43.69}};
}

/// The smallest angle between two rows that are not zero, in degrees, by a plain loop.
double minimal_angle(const at::Tensor& weight) {
  const at::Tensor rows = weight.detach().to(at::kDouble);
  double smallest = 180;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    for (int64_t j = 0; j < i; ++j) {
      const at::Tensor a = rows[i], b = rows[j];
      const double lengths = (a.norm() * b.norm()).item<double>();
      if (lengths == 0) continue;
      const double cosine = a.dot(b).item<double>() / lengths;
      smallest = std::min(smallest, std::acos(std::max(-1.0, std::min(1.0, cosine))) * 180 / M_PI);
    }
  }
  return smallest;
}

/// Gradient descent on MMA alone.
class Descent {
 public:
  Descent(const at::Tensor& rows, at::ScalarType type) : weight_(rows.to(type).clone().requires_grad_()) {
    regularizer_.add("rows", weight_);
    const double mean_square = rows.to(at::kDouble).square().sum(1).mean().item<double>();
    first_rate_ = turn_of_a_step * static_cast<double>(rows.size(0)) * mean_square;
  }

  void step(double left) {
    const at::NoGradGuard no_grad;
    weight_.mutable_grad().reset();
    regularizer_.accumulate_gradient();
    weight_.sub_(weight_.grad(), first_rate_ * left);
  }

  const at::Tensor& weight() const { return weight_; }

 private:
  at::Tensor weight_;
  mma::Regularizer<> regularizer_{mma::Options().coefficient(1)};
  double first_rate_ = 0;
};

/// Milliseconds a step at both weights, in turn, which the steps do not move; and the median of their ratio.
struct Cost {
  double start = 0, end = 0, ratio = 0;
};

Cost cost_of(const at::Tensor& start, const at::Tensor& end) {
  Descent at_start(start, end.scalar_type()), at_end(end.detach(), end.scalar_type());
  std::vector<double> first, last;
  for (int round = 0; round < 2000; ++round) {
    first.push_back(milliseconds_of([&] { at_start.step(0); }));
    last.push_back(milliseconds_of([&] { at_end.step(0); }));
  }
  return {median(first), median(last), mma::benchmarks::median_ratio(last, first)};
}

/// Whether every bar was met.
bool run(const Start& start, at::ScalarType type, int64_t steps) {
  Descent descent(start.rows, type);
  for (int64_t k = 0; k < steps; ++k) descent.step(1 - static_cast<double>(k) / static_cast<double>(steps));
  const at::Tensor end = descent.weight();
  const bool finite = at::isfinite(end).all().item<bool>();
  const double angle = finite ? minimal_angle(end) : std::nan("");
  const Cost cost = cost_of(start.rows.to(type), end);
  // bfloat16 has eight bits: a row of it lies within a quarter of a degree of where it should, two rows within twice
  // that.
  const double near = start.expected - (type == at::kFloat ? 1.0 : 2.0);
  const bool met = finite && angle > near && cost.ratio <= dearest_end;
  std::printf("| %s | %s | %.2f | %.2f | %.2f | %.4f | %.4f | %.2f | %s |\n", start.name.c_str(),
              type == at::kFloat ? "float32" : "bfloat16", minimal_angle(start.rows.to(type)), angle, start.expected,
              cost.start, cost.end, cost.ratio, met ? "met" : "**missed**");
  std::fflush(stdout);
  return met;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t steps = argc > 1 ? std::atoll(argv[1]) : 100'000;
  if (steps < 1) {
    std::fprintf(stderr, "bench-long-run: '%s' is no number of steps; expected a whole number from 1\n", argv[1]);
    return 2;
  }
  at::set_num_threads(1);
  std::printf(
      "%lld steps of MMA alone. Angles: the smallest between two rows, degrees. Cost: ms a step at the first and at\n"
      "the last weights, in turn in one process, medians of 2,000 rounds, and the median of their ratio (bar "
      "%.2f).\n\n",
      static_cast<long long>(steps), dearest_end);
  std::printf(
      "| start | type | angle at the start | at the end | largest there is | ms, first weights | ms, last | ratio | "
      "bar |\n"
      "|---|---|---:|---:|---:|---:|---:|---:|---|\n");
  bool met = true;
  for (const Start& start : starts()) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) met = run(start, type, steps) && met;
  }
  return met ? 0 : 1;
}
