// The kernels once more, for MMA_ROWS and MMA_SEARCH, in namespace EMULATED.
namespace EMULATED {
using namespace mma::detail::cuda;
using std::max;
using std::min;
#include "cuda_kernels.inl"

inline void launch(mma::detail::CudaKernel kernel, int64_t blocks, int threads, void** arguments, unsigned seed) {
  const Pass pass = *static_cast<const Pass*>(arguments[0]);
  emulator::launch(blocks, threads, seed, [&] {
    switch (kernel) {
      case mma::detail::CudaKernel::Norms: return mma_norms(pass);
      case mma::detail::CudaKernel::Search: return mma_search(pass);
      case mma::detail::CudaKernel::Decide: return mma_decide(pass);
      case mma::detail::CudaKernel::Layers: return mma_layers(pass);
      case mma::detail::CudaKernel::Total: return mma_total(pass);
      case mma::detail::CudaKernel::Gradient:
        return mma_gradient(pass, *static_cast<const GradientTargets*>(arguments[1]));
    }
  });
}
}  // namespace EMULATED

#undef DEVICE
#undef FULL_WARP
#undef PI
#undef DUPLICATE
#undef LOWEST_COSINE
#undef SLAB
#undef SUM_SLABS
#undef SLAB_WORDS
#undef PRODUCT_STRIDE
#undef SEARCH_WORDS
#undef LANE_ENTRIES
#undef EMULATED
#undef MMA_ROWS
#undef MMA_SEARCH
