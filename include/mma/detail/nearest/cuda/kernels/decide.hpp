// The third kernel: the exact angle to each row's winner, a warp a row. Only where it is below near_angle a block looks
// at all columns that the row's computed cosine cannot tell from the winner, in float64.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText decide_text(__FILE__, __LINE__, R"mma(
  // Of the unit vectors of two rows in float64; the same bits for (a, b) and (b, a).
  inline Lengths pair_lengths(const Row* first, double first_norm, const Row* second, double second_norm, int dimension,
                              bool aligned, int lane) {
    const double first_inverse = 1 / first_norm, second_inverse = 1 / second_norm;
    double difference = 0, sum = 0;
#pragma unroll 2
    for (int k = 4 * lane; k < dimension; k += 128) {
      const RowFour some = load_four(first, k, dimension, aligned), others = load_four(second, k, dimension, aligned);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const double a = real(some.v[c]) * first_inverse, b = real(others.v[c]) * second_inverse;
        difference += (a - b) * (a - b);
        sum += (a + b) * (a + b);
      }
    }
    const Lengths lengths = {sqrt(warp_sum(difference)), sqrt(warp_sum(sum))};
    return lengths;
  }

  inline Choice choice_of(const Pass& pass, const OwnRow& own, int column, int lane) {
    const Lengths lengths =
        pair_lengths(own.data, own.norm, row_data(*own.matrix, column), pass.norms[own.matrix->first_row + column],
                     own.matrix->dimension, own.aligned, lane);
    const Choice choice = {angle_of(lengths.difference, lengths.sum, duplicate),
                           deciding_angle(lengths, duplicate, pass.objective.half_space), column};
    return choice;
  }

  inline bool is_neighbour(const Pass& pass, const OwnRow& own, int column) {
    return column >= 0 && column < own.matrix->count && column != own.index &&
           takes_part(pass.norms[own.matrix->first_row + column]);
  }

  inline Choice given_neighbour(const Pass& pass, const OwnRow& own, int lane) {
    const int column = pass.given[own.place];
    return takes_part(own.norm) && is_neighbour(pass, own, column) ? choice_of(pass, own, column, lane) : no_choice();
  }

  inline Choice searched_neighbour(const Pass& pass, const OwnRow& own, int lane) {
    const Winner winner = pass.winners[own.place];
    return winner == no_winner ? no_choice() : choice_of(pass, own, column_of(winner, own.matrix->index_bits), lane);
  }

  // The cosine to a column, off by the matrix's dot_error at most.
  inline double computed_cosine(const Pass& pass, const OwnRow& own, int column, int lane) {
    const Row *first = own.data, *second = row_data(*own.matrix, column);
    const double second_norm = pass.norms[own.matrix->first_row + column];
    const double first_power = power_scale(own.norm), second_power = power_scale(second_norm);
    const Real first_scale = static_cast<Real>(first_power), second_scale = static_cast<Real>(second_power);
    Real sum = 0;
    for (int k = 4 * lane; k < own.matrix->dimension; k += 128) {
      const RowFour some = load_four(first, k, own.matrix->dimension, own.aligned);
      const RowFour others = load_four(second, k, own.matrix->dimension, own.aligned);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        sum = fused(real(some.v[c]) * first_scale, real(others.v[c]) * second_scale, sum);
      }
    }
    const double cosine = warp_sum(sum) / (own.norm * first_power * second_norm * second_power);
    return pass.objective.half_space ? fabs(cosine) : cosine;
  }

  // The smallest angle, then the lowest index: all columns, a warp a column, those exactly that may be nearer than the
  // nearest so far. Columns ascend, so the first exact duplicate settles the row.
  inline Choice nearest_of_all(const Pass& pass, const OwnRow& own, int warp, int lane) {
    constexpr int warps = row_threads / 32;
    __shared__ Choice found[warps];
    Choice best = searched_neighbour(pass, own, lane);
    double may_be_nearer = cos(best.deciding) - own.matrix->dot_error;  // from this cosine on
    bool settled = false;
    for (int begin = 0; begin < own.matrix->count && !settled; begin += warps) {
      const int column = begin + warp;
      Choice mine = no_choice();
      if (is_neighbour(pass, own, column) && computed_cosine(pass, own, column, lane) >= may_be_nearer) {
        mine = choice_of(pass, own, column, lane);
      }
      if (lane == 0) {
        found[warp] = mine;
      }
      __syncthreads();
      const double before = best.deciding;
      for (int w = 0; w < warps; ++w) {
        take_nearer(best, found[w]);
        settled = settled || found[w].deciding == 0;
      }
      if (best.deciding < before) {
        may_be_nearer = cos(best.deciding) - own.matrix->dot_error;
      }
      __syncthreads();
    }
    return best;
  }

  inline void write_choice(const Pass& pass, const OwnRow& own, const Choice& choice) {
    const bool none = choice.column == no_column;
    pass.nearest[own.place] = none ? own.index : choice.column;
    pass.angles[own.place] = none ? 0.0 : choice.angle;
  }

  KERNEL void __launch_bounds__(row_threads, 6) mma_decide(Pass pass) {
    constexpr int warps = row_threads / 32;
    __shared__ int is_near[warps];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long first = static_cast<long long>(blockIdx.x) * warps, place = first + warp;
    bool near = false;
    if (place < pass.rows) {
      const OwnRow own = own_row(pass, place);
      const Choice choice = pass.given ? given_neighbour(pass, own, lane) : searched_neighbour(pass, own, lane);
      near = !pass.given && needs_look(choice.deciding);
      if (lane == 0) {
        write_choice(pass, own, choice);
      }
    }
    if (lane == 0) {
      is_near[warp] = near;
    }
    __syncthreads();
    for (int w = 0; w < warps; ++w) {
      if (is_near[w]) {
        const OwnRow own = own_row(pass, first + w);
        const Choice choice = nearest_of_all(pass, own, warp, lane);
        if (threadIdx.x == 0) {
          write_choice(pass, own, choice);
        }
      }
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
