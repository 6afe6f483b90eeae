// Every option that a face network's training has beside the rest, row by row: set on the command line it is in the
// run's settings, survives --resume, and is refused when another value is given there.
#include <gtest/gtest.h>

#include "../training/settings/option_values.hpp"
#include "faces/command_line.hpp"
#include "faces/face_settings.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::other_value;
using mma::tests::words_for;
using Words = std::vector<std::string>;

FaceTrainArguments read(Words words) {
  words.insert(words.begin(), {"mma-faces", "train"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return std::get<FaceTrainArguments>(*read_faces_command_line(static_cast<int>(argv.size()), argv.data()));
}

class EveryFaceOption : public testing::TestWithParam<size_t> {
 protected:
  const OptionRow<FaceSettings>& row() const { return face_options()[GetParam()]; }
  Given usual() const { return value_of(row(), FaceSettings()); }
  Given wanted() const { return other_value(row(), usual()); }
  Settings settings() const {
    Words words = {"--model", "ir-small", "--data", "here"};
    if (row().key == std::string("exclude_folds")) words.insert(words.end(), {"--exclude-pairs", "pairs.txt"});
    for (const std::string& word : words_for(row(), wanted())) words.push_back(word);
    return settings_of_new_face_run(read(words));
  }
};

TEST_P(EveryFaceOption, IsInTheRunsSettingsAndReadAgain) {
  EXPECT_NE(usual(), wanted());
  const auto json = nlohmann::ordered_json::parse(to_json(settings()).dump());
  EXPECT_EQ(json.at("faces").at(row().key), wanted());
  EXPECT_EQ(value_of(row(), face_settings(settings_from_json(json))), wanted());
}

TEST_P(EveryFaceOption, SurvivesResumptionOrIsRefused) {
  FaceSettings faces = face_settings(settings());
  apply_on_resume(face_options(), read(words_for(row(), wanted())).faces, "runs/a", faces);
  EXPECT_EQ(value_of(row(), faces), wanted());
  const Given another = other_value(row(), wanted());
  if (words_for(row(), another).empty() || another == wanted()) GTEST_SKIP() << row().name << " can only be raised";
  try {
    apply_on_resume(face_options(), read(words_for(row(), another)).faces, "runs/a", faces);
    FAIL() << row().name;
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find(row().name + (" " + text(another)) + " contradicts the run in runs/a"), 0u)
        << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, EveryFaceOption, testing::Range<size_t>(0, face_options().size()),
                         [](const auto& row) { return std::string(face_options()[row.param].key); });

}  // namespace
}  // namespace mma::examples
