// What the host gives the kernels: compiled for the host and, as the text `arguments_source`, by NVRTC. Plain structs
// by value, so that a launch captured in a CUDA graph holds all it needs; the tables they point to belong to the
// engine.
#pragma once

#include "../../../pairs/math.hpp"

namespace mma::detail::nearest::cuda {

using pairs::Objective;

// Comments and line ends do not reach the text.
#define MMA_ON_BOTH_SIDES(...) \
  __VA_ARGS__                  \
  inline constexpr const char* arguments_source = #__VA_ARGS__;

MMA_ON_BOTH_SIDES(
    constexpr int tile_rows = 64; constexpr int search_threads = 128; constexpr int row_threads = 128;
    constexpr int layer_threads = 512; constexpr int gradient_targets = 448;

    // rows [count, dimension], their place among all rows and all tiles; index_bits: how many of a winner's bits are
    // the column (see search.hpp); dot_error: how far a cosine from one warp's sum can be from the true one.
    struct PassMatrix {
      const void* rows;
      long long first_row;
      long long first_tile;
      int count;
      int dimension;
      int index_bits;
      int layer;
      double dot_error;
    };

    // The matrices and the layers' first ones, one more of each than there are, which ends them. Then, for each row:
    // norms, angles, slopes, nearest as in Found; given: neighbours to take as they are, or null; winners: scratch.
    // values: of each layer.
    struct Pass {
      const PassMatrix* matrices;
      const int* layer_begin;
      double* norms;
      double* angles;
      double* slopes;
      int* nearest;
      const int* given;
      unsigned long long* winners;
      double* values;
      long long rows;
      Objective objective;
      int matrix_count;
    };

    // Where the gradients of some matrices go, and scale * factors[layer] to multiply them by.
    struct GradientTargets {
      void* at[gradient_targets];
      const double* factors;
      double scale;
      int first_matrix;
      int matrix_count;
    };)

#undef MMA_ON_BOTH_SIDES

static_assert(sizeof(Pass) + sizeof(GradientTargets) <= 4096, "a kernel takes 4 KiB of arguments");

}  // namespace mma::detail::nearest::cuda
