// What the norms set, the search raises and decide reads: a cosine and its column in one number.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText winner_text(__FILE__, __LINE__, R"mma(
  // Of two the larger is the larger cosine, on equal cosines the lower column. The column is in the lower index_bits,
  // inverted. Above it:
  // - for cosines in float32 their bits, ordered as integers are (index_bits 32);
  // - for cosines in float64 a fixed point of 64 - index_bits bits: cosine + 2 in steps of 2^(index_bits - 62). A
  // matrix
  //   that a pass takes has less than 2^22 rows, so a step is 2^-40 at most; at pairs::near_angle, below which the
  //   winner does not decide, that is 1e-11 rad: it meets the 1e-9 rad that are promised.
  typedef unsigned long long Winner;
  constexpr Winner no_winner = 0;

  inline Winner rank_of(float cosine, int) {
    const unsigned bits = static_cast<unsigned>(__float_as_int(cosine + 0.0f));  // -0 is 0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
  inline Winner rank_of(double cosine, int index_bits) {
    const double fixed_point = ldexp(cosine + 2, 62 - index_bits);
    return static_cast<Winner>(fixed_point);
  }

  inline Winner columns_mask(int index_bits) { return (1ull << index_bits) - 1; }

  inline Winner winner_of(Real cosine, int column, int index_bits) {
    return rank_of(cosine, index_bits) << index_bits | (~static_cast<Winner>(column) & columns_mask(index_bits));
  }

  inline int column_of(Winner winner, int index_bits) { return static_cast<int>(~winner & columns_mask(index_bits)); }
)mma");

}  // namespace mma::detail::nearest::cuda
