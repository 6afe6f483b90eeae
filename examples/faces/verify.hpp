// mma-faces verify: how well a network's features tell whether two pictures show one person, by LFW's protocol.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace mma::examples {

struct VerifyArguments {
  std::string weights;            ///< either these
  std::string features;           ///< or these
  std::string key;                ///< where the weights lie in their file; empty: in its only dictionary
  std::string pairs;              ///< either LFW's pairs.txt with
  std::string images;             ///< the folder of its images
  std::vector<std::string> bins;  ///< or files of insightface
  std::string model;              ///< empty: what the weights say
  bool flip = true;
  std::string thresholds = "midpoints";
  std::vector<int64_t> folds;            ///< from 1; empty: all
  std::vector<int64_t> threshold_folds;  ///< the same
  int64_t number_of_folds = 10;          ///< of a .bin file
  std::string roc;                       ///< empty: no picture
  std::string save_features;             ///< empty: no file
  bool json = false;
  int64_t batch = 64;
  int64_t threads = 0;  ///< 0: all cores
  std::string device = "cpu";
};

/// Throws UserError for contradictory options, and for files that are absent, damaged or do not belong together,
/// before any image goes through the network, but for images that turn out not to be any.
void verify(const VerifyArguments& arguments, std::ostream& stream);

}  // namespace mma::examples
