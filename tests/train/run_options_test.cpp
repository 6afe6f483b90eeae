// Every option of a run, row by row: set on the command line it is in config.json, survives --resume, is refused when
// another value is given there, and reaches --evaluate.
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"
#include "../training/settings/option_values.hpp"
#include "support/process/error.hpp"
#include "train/command_line.hpp"
#include "train/evaluate.hpp"
#include "train/train.hpp"
#include "training/run/recorded_run.hpp"
#include "training/settings/new_run.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::other_value;
using mma::tests::words_for;
using Words = std::vector<std::string>;

class SilentProgress : public Progress {
 public:
  void say(const std::string&) override {}
  void step(const StepProgress&) override {}
  void epoch(const EpochMetrics&, int64_t, bool) override {}
};

Arguments read(Words words) {
  words.insert(words.begin(), "mma-train");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return *read_command_line(static_cast<int>(argv.size()), argv.data());
}

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

const Words base = {"--model", "resnet20", "--dataset", "fashion-mnist", "--data", "here"};

/// Options without which this one makes no sense.
Words companions(const std::string& key) {
  if (key == "mean") return {"--deviation", "0.25"};
  if (key == "deviation") return {"--mean", "0.25"};
  if (key == "cuda_graph") return {"--device", "cuda"};
  return {};
}

/// The base's words with the row's in place of its own, where it has them.
Words with(const OptionRow<Settings>& row, const Given& value) {
  Words words;
  for (size_t i = 0; i < base.size(); i += 2) {
    if (base[i] != row.name) words = words + Words{base[i], base[i + 1]};
  }
  return words + companions(row.key) + words_for(row, value);
}

std::string refusal_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

class EveryOption : public testing::TestWithParam<size_t> {
 protected:
  const OptionRow<Settings>& row() const { return run_options()[GetParam()]; }
  Given usual() const { return value_of(row(), settings_of_new_run(read(base).run.given)); }
  Given wanted() const { return other_value(row(), usual()); }
  Settings settings() const { return settings_of_new_run(read(with(row(), wanted())).run.given); }
};

TEST_P(EveryOption, IsWhatTheCommandLineSays) {
  EXPECT_NE(usual(), wanted());
  EXPECT_EQ(value_of(row(), settings()), wanted());
}

TEST_P(EveryOption, IsRecordedUnderItsKeyAndReadAgain) {
  const auto json = nlohmann::ordered_json::parse(to_json(settings()).dump());
  EXPECT_EQ(json.at(row().key), wanted());
  EXPECT_EQ(value_of(row(), settings_from_json(json)), wanted());
}

TEST_P(EveryOption, SurvivesAResumptionThatIsSilentOrAgrees) {
  Settings silent = settings(), agreeing = settings();
  apply_to_resumed_run({}, "runs/a", silent);
  apply_to_resumed_run(read(words_for(row(), wanted())).run.given, "runs/a", agreeing);
  EXPECT_EQ(value_of(row(), silent), wanted());
  EXPECT_EQ(value_of(row(), agreeing), wanted());
}

TEST_P(EveryOption, WithAnotherValueContradictsARunUnlessItMayChange) {
  const Given another = other_value(row(), wanted());
  const Words words = words_for(row(), another);
  if (words.empty()) GTEST_SKIP() << row().name << " can only be raised";
  Settings run = settings();
  const std::string refused = refusal_of([&] { apply_to_resumed_run(read(words).run.given, "runs/a", run); });
  if (row().on_resume == OnResume::may_change) {
    EXPECT_EQ(refused, "");
    EXPECT_EQ(value_of(row(), run), another);
  } else {
    EXPECT_EQ(refused, row().name + (" " + text(another)) + " contradicts the run in runs/a, which has " +
                           text(wanted()) + ": leave it out to resume, or choose another --out");
    EXPECT_EQ(value_of(row(), run), wanted());
  }
}

TEST_P(EveryOption, ReachesAnEvaluationThatNeedsIt) {
  RunRecord record;
  record.settings = settings();
  Arguments arguments = read({"--evaluate", "checkpoint.safetensors", "--data", "here"});
  if (row().key == run_option("data").key) arguments.run.given.erase("data");
  const Given got = value_of(row(), settings_of_evaluation(arguments, record));
  if (row().for_evaluation) {
    EXPECT_EQ(got, wanted());
  } else {
    EXPECT_NE(got, wanted());
  }
}

TEST_P(EveryOption, OutOfItsRangeIsRefusedByNameTypedOrRead) {
  Given wrong;
  if (std::holds_alternative<Choices>(row().allowed)) wrong = "no such name";
  if (const auto* range = std::get_if<Range>(&row().allowed)) {
    const bool is_list = value_of(row(), Settings()).is_array();
    const bool is_float = std::holds_alternative<double Settings::*>(row().member) || is_list;
    const Given number = is_float ? Given(range->lowest - 1) : Given(static_cast<int64_t>(range->lowest) - 1);
    wrong = is_list ? Given::array({number}) : number;
  }
  if (wrong.is_null()) GTEST_SKIP() << row().name << " takes anything of its type";
  const std::string typed = refusal_of([&] { settings_of_new_run(read(with(row(), wrong)).run.given); });
  EXPECT_TRUE(typed.starts_with(row().name + (" " + text(wrong)) + ": ")) << typed;
  Given json = to_json(settings());
  json[row().key] = wrong;
  if (row().zero_is_none) json[row().key] = -1;
  const std::string read_back = refusal_of([&] { check(settings_from_json(json)); });
  EXPECT_TRUE(read_back.starts_with(row().name)) << read_back;
}

TEST_P(EveryOption, OfAnotherTypeIsRefusedWhenRead) {
  const Given value = value_of(row(), Settings());
  Given json = to_json(settings());
  const auto refused = [&](const Given& wrong) {
    json[row().key] = wrong;
    const std::string sentence = refusal_of([&] { settings_from_json(json); });
    return sentence.starts_with("'" + std::string(row().key) + "' is ");
  };
  const Given no_number = Given::array({true}), words = Given::array({"1"});
  for (const Given& wrong : {Given(), Given::object(), Given::array({Given::array()})}) EXPECT_TRUE(refused(wrong));
  EXPECT_EQ(refused("text"), !value.is_string());
  EXPECT_EQ(refused(true), !value.is_boolean());
  EXPECT_EQ(refused(1.5), !value.is_number_float());
  EXPECT_EQ(refused(1), !value.is_number());
  EXPECT_EQ(refused(uint64_t{1} << 63), !value.is_number_float() && !value.is_number_unsigned());
  EXPECT_EQ(refused(-1), !value.is_number() || value.is_number_unsigned());
  EXPECT_TRUE(refused(no_number) && refused(words));
  json.erase(row().key);
  const std::string missing = refusal_of([&] { settings_from_json(json); });
  EXPECT_EQ(missing, row().is_newer ? "" : "there is no '" + std::string(row().key) + "'");
}

INSTANTIATE_TEST_SUITE_P(Rows, EveryOption, testing::Range<size_t>(0, run_options().size()),
                         [](const auto& row) { return std::string(run_options()[row.param].key); });

TEST(RunOptions, HaveNamesAndKeysOfTheirOwn) {
  std::set<std::string> names, keys;
  for (const OptionRow<Settings>& row : run_options()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_TRUE(keys.insert(row.key).second) << row.key;
    EXPECT_FALSE(row.help.empty()) << row.name;
  }
}

/// Those that this machine can do, all in one run.
class ARunOfAllOptions : public testing::Test {
 protected:
  ARunOfAllOptions() {
    mma::tests::write_tiny_fashion_mnist(folder_ / "data", 40, 40);
    mma::tests::write_tiny_fashion_mnist(folder_ / "other", 40, 40);
    const Settings usual = settings_of_new_run(read(base).run.given);
    for (const OptionRow<Settings>& row : run_options()) wanted_[row.key] = other_value(row, value_of(row, usual));
    for (const char* of_gpu : {"device", "cuda_graph", "cudnn_benchmark"}) wanted_.erase(of_gpu);
    wanted_["dataset"] = "fashion-mnist";
    wanted_["data"] = (folder_ / "data").string();
    wanted_["model"] = "wrn-16-8";
    wanted_["regularizer"] = "cosine";
    wanted_["epochs"] = 1;
    wanted_["batch"] = 20;
    wanted_["limit_train"] = 20;
    wanted_["limit_test"] = 20;
    wanted_["warm_up"] = 0;       // of one epoch
    wanted_.erase("milestones");  // --schedule cosine has none
    wanted_.erase("rate_divisor");
    run_.given = wanted_;
    run_.out = (folder_ / "run").string();
  }

  mma::tests::TemporaryFolder folder_;
  Given wanted_;
  RunArguments run_;
  SilentProgress progress_;
};

TEST_F(ARunOfAllOptions, RecordsThemAndRefusesOthers) {
  ASSERT_EQ(train(run_, progress_), 0);
  const auto config = read_config(*run_.out).at("settings");
  const auto record = mma::tests::record_of(fs::path(*run_.out) / "checkpoint.safetensors").at("settings");
  for (const auto& [key, value] : wanted_.items()) {
    EXPECT_EQ(config.at(key), value) << key;
    EXPECT_EQ(record.at(key), nlohmann::json::parse(value.dump())) << key;
  }
  for (const OptionRow<Settings>& row : run_options()) {
    if (row.on_resume == OnResume::may_change || !wanted_.contains(row.key)) continue;
    RunArguments other;
    other.out = run_.out;
    other.resume = true;
    other.given[row.key] = other_value(row, wanted_[row.key]);
    const std::string refused = refusal_of([&] { train(other, progress_); });
    EXPECT_NE(refused.find(std::string(row.name) + " "), std::string::npos) << refused;
    EXPECT_NE(refused.find("contradicts the run in " + *run_.out), std::string::npos) << refused;
  }
  RunArguments silent;
  silent.out = run_.out;
  silent.resume = true;
  EXPECT_EQ(train(silent, progress_), 0);
}

/// The accuracy that a run wrote down for its last epoch is what --evaluate finds in its checkpoint.
TEST_F(ARunOfAllOptions, IsEvaluatedAsItWasTested) {
  const Given common = {
      {"model", "resnet20"}, {"dataset", "fashion-mnist"}, {"data", wanted_["data"]}, {"epochs", 6}, {"batch", 10},
      {"threads", 1}};
  const std::vector<std::pair<Given, Words>> cases = {
      {{{"mean", {0.9}}, {"deviation", {0.02}}}, {"--mean", "0.2860", "--deviation", "0.3530"}},
      {{{"average", 0.9}, {"learning_rate", 0.01}}, {}}};
  for (const auto& [own, others] : cases) {
    run_.given = common;
    run_.given.update(own);
    fs::remove_all(*run_.out);
    ASSERT_EQ(train(run_, progress_), 0);
    const EpochMetrics last = read_history(*run_.out).back();
    const Words words = {"--evaluate", (fs::path(*run_.out) / "checkpoint.safetensors").string()};
    std::ostringstream printed, expected;
    evaluate_weights(read(words), printed);
    expected << std::fixed << std::setprecision(2) << ": top-1 " << last.top1 << " %, top-5 " << last.top5 << " %\n";
    EXPECT_NE(printed.str().find(expected.str()), std::string::npos) << printed.str() << expected.str();
    if (others.empty()) continue;
    std::ostringstream with_others;
    evaluate_weights(read(words + others), with_others);
    EXPECT_EQ(with_others.str().find(expected.str()), std::string::npos) << "the test cannot tell them apart";
  }
}

}  // namespace
}  // namespace mma::examples
