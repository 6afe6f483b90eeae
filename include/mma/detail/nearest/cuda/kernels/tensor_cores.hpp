// The instructions of tensor cores that the search uses, one function each; the emulator has the same functions in
// plain loops. From compute capability 8.0 on.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText tensor_cores_text(__FILE__, __LINE__, R"mma(
#if MMA_TENSOR_CORES && !defined(MMA_EMULATED)
  // Two float16, to nearest, the first in the lower half.
  inline unsigned two_halves(float first, float second) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
  }

  inline float first_half(unsigned both) {
    float value;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }" : "=f"(value) : "r"(both));
    return value;
  }

  inline float second_half(unsigned both) {
    float value;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high; }" : "=f"(value) : "r"(both));
    return value;
  }

  // Four matrices of 8 x 8 float16 from shared memory: lane l gives the address of row l % 8 of matrix l / 8, and gets
  // of each matrix the entries 2 (l % 4) and the next of row l / 4.
  inline void load_matrices(const unsigned short* row, unsigned (&entries)[4]) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(entries[0]), "=r"(entries[1]), "=r"(entries[2]), "=r"(entries[3])
                 : "r"(address)
                 : "memory");
  }

  // sum [16 x 8] += a [16 x 16] b [16 x 8], float16 with sums in float32. Lane l, with g = l / 4 and t = 2 (l % 4), has
  // the entries t and t + 1 of the rows g and g + 8 of the sum; of the rows g and g + 8 of a those and then those 8
  // further on; of the column g of b the same.
  inline void multiply_add(const unsigned (&a)[4], unsigned b_low, unsigned b_high, float (&sum)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  }
#endif
)mma");

}  // namespace mma::detail::nearest::cuda
