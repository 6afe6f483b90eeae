// LFW's pairs.txt, pairsDevTest.txt of one fold, and Kaggle's pairs.csv: which pairs of images are compared, fold by
// fold.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mma::examples {

/// Two places in a list of images.
struct ImagePair {
  int64_t first = 0;
  int64_t second = 0;
  bool same = false;  ///< of one identity
};

struct NamedImage {
  std::string identity;
  int64_t number = 0;  ///< from 1
  int64_t line = 0;    ///< of the file, from 1: where it is named first

  /// "Abel_Pacheco/Abel_Pacheco_0001": the file's path in LFW's folder without its ending.
  std::string name() const;
};

struct PairsFile {
  std::vector<NamedImage> images;  ///< each once, in the order of the file
  std::vector<ImagePair> pairs;    ///< fold after fold, all of one size
  int64_t folds = 0;
};

/// Reads the lines "10 300" (folds, pairs of each kind in a fold; of one fold "300"), then for each fold the pairs of
/// one identity "name a b" and the different ones "name a other b", with tabulators or blanks between the words. Or the
/// same pairs with commas under a heading "name,imagenum1,imagenum2", whose folds are those of its order; one fold
/// where the two kinds do not alternate evenly. Throws UserError that names the file, the line and what was expected
/// there.
PairsFile read_pairs_file(const std::filesystem::path& path);

/// The images' files: <folder>/<name> with one of the endings of image_folder.hpp, in any case; lfw/lfw is read for
/// lfw. Throws UserError that names the first folder of an identity or image that is absent, the line that names it,
/// and how many more there are.
std::vector<std::filesystem::path> find_images(const std::vector<NamedImage>& images,
                                               const std::filesystem::path& folder, const std::string& pairs_file);

}  // namespace mma::examples
