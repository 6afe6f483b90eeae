#include "faces/verify.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "faces/embedding_progress.hpp"
#include "faces/face_network.hpp"
#include "faces/features_file.hpp"
#include "faces/pair_set.hpp"
#include "faces/verification_report.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"
#include "support/terminal/options.hpp"

namespace mma::examples {
namespace {

void check(const VerifyArguments& arguments) {
  const bool of_folder = !arguments.pairs.empty();
  const bool stored = !arguments.features.empty();
  require(arguments.weights.empty() == stored, "one of WEIGHTS and --features FILE is needed, and not both");
  require(of_folder == arguments.bins.empty(), "one of --pairs FILE and --bin FILE is needed, and not both");
  require(of_folder || arguments.images.empty(), "--images belongs to --pairs");
  require(!of_folder || stored || !arguments.images.empty(), "--pairs needs --images DIR, the folder of the images");
  require(!stored || arguments.bins.size() < 2, "--features judges one set of pairs; expected one --bin");
  require(!stored || arguments.save_features.empty(), "--save-features belongs to WEIGHTS, not to --features");
  require(!stored || arguments.key.empty(), "--key belongs to WEIGHTS, not to --features");
  require(!stored || arguments.model.empty(), "--model belongs to WEIGHTS, not to --features");
  require(arguments.save_features.empty() || arguments.bins.size() < 2,
          "--save-features keeps the features of one set of pairs; expected one --bin");
  require(!of_folder || arguments.number_of_folds == 10,
          "--number-of-folds belongs to --bin; pairs.txt says how many it has");
  require_within("--number-of-folds", arguments.number_of_folds, 2, 1'000'000);
  require_within("--batch", arguments.batch, 1, 1'000'000);
  require_within("--threads", arguments.threads, 0, most_at_a_time);
  // Said before hours of work, not after them.
  require(arguments.roc.empty() || plotting_available(),
          "--roc: the program gnuplot is not installed (package gnuplot-nox)");
  for (const std::string& file : {arguments.roc, arguments.save_features}) {
    const std::filesystem::path folder = std::filesystem::path(file).parent_path();
    require(folder.empty() || std::filesystem::is_directory(folder),
            "cannot write " + file + ": there is no folder " + folder.string());
  }
}

FoldChoice folds_of(const VerifyArguments& arguments) { return {arguments.folds, arguments.threshold_folds}; }

std::vector<PairSet> read_pair_sets(const VerifyArguments& arguments) {
  std::vector<PairSet> sets;
  if (!arguments.pairs.empty()) sets.push_back(pair_set_of_folder(arguments.pairs, arguments.images));
  for (const std::string& bin : arguments.bins) sets.push_back(pair_set_of_bin(bin, arguments.number_of_folds));
  for (const PairSet& set : sets) held_out_folds(folds_of(arguments), set.folds());  // throws
  return sets;
}

/// Those that the pairs of these folds show, in the set's order.
std::vector<int64_t> images_in(const PairSet& set, const std::vector<int64_t>& folds) {
  std::set<int64_t> images;
  for (const int64_t fold : folds) {
    for (int64_t i = set.ends[static_cast<size_t>(fold - 1)]; i < set.ends[static_cast<size_t>(fold)]; ++i) {
      const ImagePair& pair = set.pairs[static_cast<size_t>(i)];
      images.insert({pair.first, pair.second});
    }
  }
  return {images.begin(), images.end()};
}

/// Those of the folds that are held out or choose thresholds.
std::vector<int64_t> images_needed(const PairSet& set, const FoldChoice& choice) {
  std::vector<int64_t> folds = held_out_folds(choice, set.folds());
  const std::vector<int64_t> for_thresholds = folds_for_thresholds(choice, set.folds());
  folds.insert(folds.end(), for_thresholds.begin(), for_thresholds.end());
  return images_in(set, folds);
}

at::Tensor embed_set(const PairSet& set, const FaceNetwork& network, const VerifyArguments& arguments,
                     const std::vector<int64_t>& images) {
  EmbeddingProgress progress(set.name, std::ssize(images));
  const EmbeddingOptions options{arguments.batch, arguments.flip, arguments.device};
  const auto source = [&](int64_t image) { return set.image(image, network.channels); };
  at::Tensor features = embed(network.features, source, images, options, [&](int64_t done) { progress.show(done); });
  progress.finish();
  const at::Tensor finite = at::isfinite(features).all(1);
  for (int64_t row = 0; row < finite.size(0); ++row) {
    require(finite[row].item<bool>(), set.describe(images[static_cast<size_t>(row)]) +
                                          ": its feature is not finite; are these the weights of a trained network?");
  }
  return features;
}

/// What --save-features writes: a row an image where images have names, else two rows a pair.
StoredFeatures stored(const PairSet& set, const at::Tensor& features) {
  if (!set.image_names.empty()) return {features, set.image_names};
  std::vector<int64_t> rows;
  for (const ImagePair& pair : set.pairs) rows.insert(rows.end(), {pair.first, pair.second});
  return {features.index_select(0, at::tensor(rows)), {}};
}

VerificationResult result_of(const PairSet& set, const Fold& pairs, const VerifyArguments& arguments) {
  std::vector<Fold> folds;
  for (size_t fold = 1; fold < set.ends.size(); ++fold) {
    folds.emplace_back(pairs.begin() + set.ends[fold - 1], pairs.begin() + set.ends[fold]);
  }
  const std::vector<FoldResult> tested =
      cross_validate(folds, folds_of(arguments), threshold_set_named(arguments.thresholds));
  Fold reported;
  for (const FoldResult& result : tested) {
    const Fold& fold = folds[static_cast<size_t>(result.fold - 1)];
    reported.insert(reported.end(), fold.begin(), fold.end());
  }
  const int64_t images = std::ssize(images_in(set, held_out_folds(folds_of(arguments), set.folds())));
  return {set.name, images, set.folds(), tested, Roc(std::move(reported), set.name)};
}

/// Features of images that no reported fold needs are left at zero: no figure depends on them.
at::Tensor features_of_all(const at::Tensor& features, const std::vector<int64_t>& images, int64_t count) {
  at::Tensor all = at::zeros({count, features.size(1)}, features.options());
  return all.index_copy_(0, at::tensor(images), features);
}

VerificationResult verify_set(const PairSet& set, const FaceNetwork& network, const VerifyArguments& arguments) {
  const FoldChoice needed = arguments.save_features.empty() ? folds_of(arguments) : FoldChoice();
  const std::vector<int64_t> images = images_needed(set, needed);
  const at::Tensor features = features_of_all(embed_set(set, network, arguments, images), images, set.images);
  if (!arguments.save_features.empty()) write_features(arguments.save_features, stored(set, features));
  return result_of(set, distances(features, set.pairs), arguments);
}

VerificationResult judge_features(const PairSet& set, const VerifyArguments& arguments) {
  const StoredFeatures features = read_features(arguments.features);
  require(at::isfinite(features.rows).all().item<bool>(), arguments.features + ": has features that are not finite");
  const std::vector<ImagePair> pairs = rows_of_pairs(set.pairs, set.image_names, features, arguments.features);
  return result_of(set, distances(features.rows, pairs), arguments);
}

nlohmann::ordered_json to_json(const VerifyArguments& arguments, const std::string& model,
                               const std::vector<VerificationResult>& results) {
  nlohmann::ordered_json json;
  if (arguments.features.empty()) {
    json["weights"] = arguments.weights;
    json["model"] = model;
    json["flip"] = arguments.flip;
  } else {
    json["features"] = arguments.features;
  }
  json["thresholds"] = arguments.thresholds;
  const bool one_fold = results.size() == 1 && results.front().folds == 1;
  const char* others = one_fold ? "the one there is" : "all but the one held out";
  json["threshold_folds"] = arguments.threshold_folds.empty() ? nlohmann::ordered_json(others)
                                                              : nlohmann::ordered_json(arguments.threshold_folds);
  for (const VerificationResult& result : results) json["sets"].push_back(mma::examples::to_json(result));
  return json;
}

}  // namespace

void verify(const VerifyArguments& arguments, std::ostream& stream) {
  check(arguments);
  threshold_set_named(arguments.thresholds);
  if (arguments.threads > 0) at::set_num_threads(static_cast<int>(arguments.threads));
  const std::vector<PairSet> sets = read_pair_sets(arguments);
  std::vector<VerificationResult> results;
  std::string model;
  if (arguments.features.empty()) {
    const FaceNetwork network = read_face_network(arguments.weights, arguments.model, arguments.device, arguments.key);
    model = network.model;
    for (const PairSet& set : sets) results.push_back(verify_set(set, network, arguments));
  } else {
    results.push_back(judge_features(sets.front(), arguments));
  }
  if (!arguments.roc.empty()) plot_roc(results, arguments.roc);
  if (arguments.json) {
    stream << to_json(arguments, model, results).dump(2) << '\n';
  } else {
    print_table(results, stream);
  }
}

}  // namespace mma::examples
