// The kernels' whole text, which NVRTC compiles for the GPU that is there (runtime.hpp): plain CUDA C++ without
// includes. The scalar formulas in it are those of pairs/math.hpp. To be compiled with --fmad=false, so that a - b does
// not depend on which row comes first.
#pragma once

#include <string>

#include "../../pairs/math.hpp"
#include "kernels/arguments.hpp"
#include "kernels/common.hpp"
#include "kernels/decide.hpp"
#include "kernels/gradient.hpp"
#include "kernels/norms.hpp"
#include "kernels/search.hpp"
#include "kernels/values.hpp"

namespace mma::detail::nearest::cuda {

/// For rows of one type: 0 float32, 1 float64, 2 float16, 3 bfloat16.
inline std::string source(int row_type) {
  std::string text = "#undef MMA_ROWS\n#define MMA_ROWS " + std::to_string(row_type) + "\n" + prelude_text.with_line();
  text += "#line 1 \"math.hpp\"\n" + std::string(pairs::math_source) + "\n";
  text += "#line 1 \"arguments.hpp\"\n" + std::string(arguments_source) + "\n";
  for (const KernelText& piece :
       {common_text, winner_text, norms_text, search_text, decide_text, values_text, gradient_text}) {
    text += piece.with_line();
  }
  return text;
}

}  // namespace mma::detail::nearest::cuda
