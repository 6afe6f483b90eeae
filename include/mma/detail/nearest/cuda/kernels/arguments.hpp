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
    constexpr int tile_rows = 64; constexpr int slab = 32; constexpr int search_threads = 128;
    constexpr int row_threads = 128; constexpr int layer_threads = 512; constexpr int chooser_threads = 512;
    constexpr int gradient_chunk = 1024; constexpr int gradient_targets = 448;

    // rows [count, dimension], and the place of their first among all rows, among the search's units (see schedule.hpp)
    // and among the gradient's chunks; waves: how many tiles of it each block of the search takes whole; index_bits:
    // how many of a winner's bits are the column (see winner.hpp); dot_error: how far a cosine from one warp's sum can
    // be from the true one.
    struct PassMatrix {
      const void* rows;
      long long first_row;
      long long first_unit;
      long long first_chunk;
      long long waves;
      int count;
      int dimension;
      int index_bits;
      int layer;
      double dot_error;
    };

    // What the pair of a row and its nearest adds to the gradient: to the row's own, near_unit times the unit vector
    // and near_other times the nearest row; to the nearest row's, far_unit times its unit vector and far_other times
    // the row; and near_axis, far_axis at an axis, -1 for none. exact: float32 sums would lose too much.
    struct RowTerms {
      double near_unit;
      double near_other;
      double near_axis;
      double far_unit;
      double far_other;
      double far_axis;
      int axis;
      int exact;
    };

    // The matrices and the layers' first ones, one more of each than there are, which ends them. For each row: norms,
    // angles, slopes, nearest as in Found; given: neighbours to take as they are, or null. Scratch, for each row:
    // winners, terms, where its choosers begin and end, choosers; for each block of the search two pieces of a tile's
    // products and how many of its first one's have arrived. values: of each layer.
    struct Pass {
      const PassMatrix* matrices;
      const int* layer_begin;
      double* norms;
      double* angles;
      double* slopes;
      int* nearest;
      const int* given;
      unsigned long long* winners;
      RowTerms* terms;
      int* choosers_begin;
      int* choosers_end;
      int* choosers;
      void* pieces;
      int* arrived;
      double* values;
      long long rows;
      long long units;
      Objective objective;
      int matrix_count;
      int search_blocks;
      bool has_waves;
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
