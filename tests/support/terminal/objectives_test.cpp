// The objectives by name: what --regularizer and --objective take.
#include "support/terminal/objectives.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/mma.hpp>

#include <set>

#include "support/process/error.hpp"

namespace {

using mma::examples::NamedObjective;
using mma::examples::objective_named;
using mma::examples::objectives;

/// Two rows are nearly opposite, which tells lines from rays.
at::Tensor random_rows() {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  at::Tensor rows = at::randn({1, 20, 12}, generator, at::kFloat);
  rows[0][1].mul_(0.3).sub_(rows[0][0]);
  return rows;
}

TEST(NamedObjectives, BeginWithMmaAndHaveNamesOfTheirOwn) {
  EXPECT_EQ(objectives().front().name, "mma");
  std::set<std::string> names, abouts;
  for (const NamedObjective& entry : objectives()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_TRUE(abouts.insert(entry.about).second) << entry.about;
    EXPECT_EQ(objective_named(entry.name, "--regularizer").about, entry.about);
  }
  EXPECT_EQ(objectives().front().coefficient, std::nullopt);
  EXPECT_EQ(objective_named("mhe-s2", "--regularizer").coefficient, 1.0);       // the paper's
  EXPECT_EQ(objective_named("orthogonal", "--regularizer").coefficient, 1e-4);  // the paper's
}

TEST(NamedObjectives, EachHasAFiniteValueAndGradient) {
  const at::Tensor rows = random_rows(), usable = at::ones({1, 20}, at::kBool);
  std::set<double> values;
  for (const NamedObjective& entry : objectives()) {
    const auto [value, gradient] = entry.make(1).value_and_gradient(rows, usable, at::ones({1}));
    EXPECT_TRUE(value.isfinite().all().item<bool>()) << entry.name;
    EXPECT_TRUE(gradient.isfinite().all().item<bool>()) << entry.name;
    EXPECT_GT(gradient.norm().item<double>(), 0) << entry.name;
    EXPECT_TRUE(values.insert(value.item<double>()).second) << entry.name << " is another by a second name";
  }
}

TEST(NamedObjectives, TheSeedIsThatOfTheirDraws) {
  const at::Tensor rows = random_rows(), usable = at::ones({1, 20}, at::kBool);
  for (const std::string name : {"mma-sampled", "mhe-s2-batch", "mhe-s0-batch", "srip"}) {
    const auto value = [&](uint64_t seed) {
      return objective_named(name, "--regularizer").make(seed)(rows, usable).item<double>();
    };
    EXPECT_EQ(value(1), value(1)) << name;
    EXPECT_NE(value(1), value(2)) << name;
  }
}

TEST(NamedObjectives, AnUnknownNameIsOneSentence) {
  try {
    objective_named("mmma", "--regularizer");
    FAIL() << "nothing thrown";
  } catch (const mma::examples::UserError& error) {
    const std::string message = error.what();
    for (const std::string part : {"--regularizer", "mmma", "mma-half-space", "orthogonal"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

}  // namespace
