// Which program made a run: its git commit, compiled in, and the LibTorch that it was built with.
#pragma once

#include <string_view>

namespace mma::examples {

/// The commit's full hash, with "-dirty" when files differed from it; "unknown" when built outside its repository.
extern const std::string_view git_commit;

extern const std::string_view libtorch_version;

}  // namespace mma::examples
