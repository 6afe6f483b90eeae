// What a verification has found, as a table, as JSON, and its ROC curves as a picture.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <ostream>

#include "faces/protocol.hpp"
#include "faces/roc.hpp"

namespace mma::examples {

struct VerificationResult {
  std::string name;    ///< of the pairs: "lfw"
  int64_t images = 0;  ///< distinct ones that the pairs of the folds reported show
  int64_t folds = 0;   ///< all of them; `tested` are the ones reported
  std::vector<FoldResult> tested;
  Roc roc;  ///< of the pairs of those folds
};

/// The false accept rates at which the true accept rate is reported.
inline constexpr double reported_false_accepts[] = {1e-2, 1e-3, 1e-4};

void print_table(const std::vector<VerificationResult>& results, std::ostream& stream);

/// Rates are in percent, as the names say; what is not known is null.
nlohmann::ordered_json to_json(const VerificationResult& result);

/// A curve for each; the axis of false accepts is logarithmic. Throws what write_png throws.
void plot_roc(const std::vector<VerificationResult>& results, const std::filesystem::path& path);

}  // namespace mma::examples
