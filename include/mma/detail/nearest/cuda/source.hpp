// The kernels' whole text, which NVRTC compiles for the GPU that is there (runtime.hpp): plain CUDA C++ without
// includes. The scalar formulas in it are those of pairs/math.hpp. To be compiled with --fmad=false, so that a - b does
// not depend on which row comes first.
#pragma once

#include <string>

#include "../../pairs/math.hpp"
#include "kernels/arguments.hpp"
#include "kernels/choosers.hpp"
#include "kernels/common.hpp"
#include "kernels/decide.hpp"
#include "kernels/gradient.hpp"
#include "kernels/norms.hpp"
#include "kernels/plain_product.hpp"
#include "kernels/schedule.hpp"
#include "kernels/search.hpp"
#include "kernels/tensor_cores.hpp"
#include "kernels/tensor_product.hpp"
#include "kernels/tile.hpp"
#include "kernels/values.hpp"
#include "kernels/winner.hpp"

namespace mma::detail::nearest::cuda {

/// For rows of one type: 0 float32, 1 float64, 2 float16, 3 bfloat16. tensor_cores: the search's products are made by
/// them, which float64 does not take.
inline std::string source(int row_type, bool tensor_cores) {
  std::string text = "#undef MMA_ROWS\n#define MMA_ROWS " + std::to_string(row_type) +
                     "\n#undef MMA_TENSOR_CORES\n#define MMA_TENSOR_CORES " +
                     std::to_string(tensor_cores && row_type != 1 ? 1 : 0) + "\n" + prelude_text.with_line();
  text += "#line 1 \"math.hpp\"\n" + std::string(pairs::math_source) + "\n";
  text += "#line 1 \"arguments.hpp\"\n" + std::string(arguments_source) + "\n";
  for (const KernelText& piece :
       {common_text, winner_text, norms_text, schedule_text, tile_text, tensor_cores_text, tensor_product_text,
        plain_product_text, search_text, decide_text, values_text, choosers_text, gradient_text}) {
    text += piece.with_line();
  }
  return text;
}

/// As the GPU of a compute capability such as 90 is given it.
inline std::string source_for(int capability, int row_type) { return source(row_type, capability >= 80); }

}  // namespace mma::detail::nearest::cuda
