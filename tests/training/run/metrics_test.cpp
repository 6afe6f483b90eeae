// Hits counted by hand, the mean of the last five epochs, and the files' text.
#include "training/run/metrics.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

namespace mma::examples {
namespace {

EpochMetrics example_metrics() {
  EpochMetrics metrics;
  metrics.epoch = 3;
  metrics.learning_rate = 0.01;
  metrics.loss = 0.1 + 0.2;
  metrics.regularization_loss = -0.5;
  metrics.top1 = 62.5;
  metrics.top5 = 97.25;
  metrics.angles.minimal_angles = {{"conv1", 41.5}, {"fc", 80}};
  metrics.angles.mean_nearest_angle = 75.5;
  metrics.angles.pairs_above = 12;
  metrics.skipped_steps = 2;
  metrics.seconds = 1.5;
  metrics.seconds_per_step = 0.25;
  metrics.communication_share = 0.125;
  metrics.peak_memory_mib = 100;
  metrics.finished_at = 1.8e9;
  return metrics;
}

TEST(Hits, CountTheLabelsRank) {
  //                          rank of the label:     1              2              5              6
  const at::Tensor logits = at::tensor({9., 1., 2., 3., 4., 5.,  //
                                        9., 8., 2., 3., 4., 5.,  //
                                        1., 9., 8., 7., 6., 0.,  //
                                        0., 9., 8., 7., 6., 5.})
                                .view({4, 6});
  HitCounter counter;
  counter.add(logits, at::tensor({0, 1, 0, 0}, at::kLong));
  const Hits hits = counter.hits();
  EXPECT_EQ(hits.top1, 1);
  EXPECT_EQ(hits.top5, 3);
  EXPECT_EQ(hits.images, 4);
  EXPECT_EQ(hits.top1_percent(), 25);
  EXPECT_EQ(hits.top5_percent(), 75);
}

TEST(Hits, AddUpOverBatches) {
  HitCounter counter;
  EXPECT_EQ(counter.hits().images, 0);
  const at::Tensor right = at::tensor({1., 0.}).view({1, 2});
  for (int64_t label : {0, 1, 0}) counter.add(right, at::tensor({label}, at::kLong));
  const Hits hits = counter.hits();
  EXPECT_EQ(hits.images, 3);
  EXPECT_EQ(hits.top1, 2);
  EXPECT_EQ(hits.top5, 3);  // of two classes every label is among the best five
}

TEST(Hits, AreNoneForConstantOrNanLogits) {
  HitCounter counter;
  counter.add(at::zeros({2, 6}), at::zeros({2}, at::kLong));
  counter.add(at::full({2, 6}, std::nan("")), at::zeros({2}, at::kLong));
  const Hits hits = counter.hits();
  EXPECT_EQ(hits.top1, 0);
  EXPECT_EQ(hits.top5, 0);
}

TEST(Metrics, MeanOfTheLastFive) {
  std::vector<EpochMetrics> history;
  for (double top1 : {1.0, 10.0, 20.0, 30.0, 40.0, 60.0}) {
    history.emplace_back();
    history.back().top1 = top1;
  }
  EXPECT_DOUBLE_EQ(mean_top1_of_last_five(history), 32);  // (10 + 20 + 30 + 40 + 60) / 5
  history.resize(2);
  EXPECT_DOUBLE_EQ(mean_top1_of_last_five(history), 5.5);
}

TEST(Metrics, AnglesLeaveOutLayersThatHaveNone) {
  AngleSummary angles;
  angles.minimal_angles = {{"a", 30}, {"b", std::numeric_limits<double>::quiet_NaN()}, {"c", 50}};
  EXPECT_EQ(angles.smallest_minimal_angle(), 30);
  EXPECT_EQ(angles.mean_minimal_angle(), 40);
}

TEST(Metrics, CsvIsExactAndHasSecondsAndMemoryLast) {
  std::ostringstream text;
  write_metrics_csv(text, {example_metrics()});
  EXPECT_EQ(
      text.str(),
      "epoch,learning_rate,loss,regularization_loss,top1_percent,top5_percent,mean_nearest_angle_degrees,"
      "pairs_above_0.2,minimal_angle_degrees:conv1,minimal_angle_degrees:fc,skipped_steps,seconds,seconds_per_step,"
      "communication_share,peak_memory_mib,finished_at\n"
      "3,0.01,0.30000000000000004,-0.5,62.5,97.25,75.5,12,41.5,80,2,1.5,0.25,0.125,100,1.8e+09\n");
}

TEST(Metrics, JsonLinesReadBackTheSame) {
  EpochMetrics metrics = example_metrics();
  metrics.angles.minimal_angles.emplace_back("none", std::numeric_limits<double>::quiet_NaN());
  std::ostringstream text;
  write_metrics_jsonl(text, {metrics});
  EXPECT_EQ(text.str(),
            "{\"epoch\":3,\"learning_rate\":0.01,\"loss\":0.30000000000000004,\"regularization_loss\":-0.5,"
            "\"top1_percent\":62.5,\"top5_percent\":97.25,\"mean_nearest_angle_degrees\":75.5,\"pairs_above_0.2\":12,"
            "\"minimal_angle_degrees\":{\"conv1\":41.5,\"fc\":80.0,\"none\":null},\"skipped_steps\":2,\"seconds\":1.5,"
            "\"seconds_per_step\":0.25,\"communication_share\":0.125,\"peak_memory_mib\":100.0,\"finished_at\":"
            "1800000000.0}\n");
  const EpochMetrics again = epoch_metrics_from_json(nlohmann::ordered_json::parse(text.str()), metrics.epoch);
  std::ostringstream second;
  write_metrics_jsonl(second, {again});
  EXPECT_EQ(second.str(), text.str());
  EXPECT_TRUE(std::isnan(again.angles.minimal_angles.back().second));
}

}  // namespace
}  // namespace mma::examples
