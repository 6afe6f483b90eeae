// For each row the row at the smallest angle: the true one, ties to the lowest index, in memory O(n d + n tile).
//
// 1. Cosines in float32, a tile of rows against all rows; every cosine within the product's own error bound of the
//    best is a candidate. One candidate: done. 2. A row with too many is searched again in float64. 3. What is still
//    close is decided by the angle of pair_angles.hpp. Works on any device through ATen.
// Over the half-space the rows stand for lines: the row nearest to w or to -w, by |cosine| and the folded angle.
// A faster search for one device (tiles of the upper triangle on a CPU, a kernel on a GPU) belongs into nearest_rows().
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "cpu_search.hpp"
#include "full_precision.hpp"
#include "pair_angles.hpp"
#include "row_norms.hpp"

namespace mma::detail {

inline constexpr int64_t tile_elements = int64_t{1} << 20;  ///< cosines held at a time
inline constexpr double excluded_cosine = -4;               ///< a row itself, and rows that do not take part
inline constexpr double lowest_cosine = -1.5;               ///< below any cosine, above excluded_cosine

/// left [b, t, d] times right [b, n, d] transposed, summed in blocks of inner_block terms for a tight error bound.
inline at::Tensor blocked_product(const at::Tensor& left, const at::Tensor& right) {
  const int64_t dimension = left.size(2);
  const auto block = [&](const at::Tensor& t, int64_t k) {
    return t.narrow(2, k, std::min(inner_block, dimension - k));
  };
  at::Tensor product = at::bmm(block(left, 0), block(right, 0).transpose(1, 2));
  for (int64_t k = inner_block; k < dimension; k += inner_block) {
    product.baddbmm_(block(left, k), block(right, k).transpose(1, 2));
  }
  return product;
}

/// The rows that still have several candidates, as lists: row r owns columns [begin[r], begin[r + 1]), ascending.
struct Candidates {
  std::vector<int64_t> rows;
  std::vector<int64_t> begin{0};
  std::vector<int64_t> columns;

  /// From a mask [t, n] on any device; names[t] is the index of each row of the mask.
  static Candidates from_mask(const at::Tensor& mask, const std::vector<int64_t>& names) {
    Candidates result;
    const at::Tensor where = at::nonzero(mask).to(at::kCPU).contiguous();  // it may come column by column
    const int64_t* pair = where.const_data_ptr<int64_t>();
    int64_t k = 0;
    for (size_t t = 0; t < names.size(); ++t) {
      for (; k < where.size(0) && pair[2 * k] == static_cast<int64_t>(t); ++k) {
        result.columns.push_back(pair[2 * k + 1]);
      }
      result.rows.push_back(names[t]);
      result.begin.push_back(static_cast<int64_t>(result.columns.size()));
    }
    return result;
  }
};

inline at::Tensor index_tensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions(at::kLong)).to(device);
}

/// One matrix [n, d] as every step of the search sees it.
struct SearchedMatrix {
  at::Tensor rows;      ///< [n, d]
  at::Tensor norms;     ///< [n] float64, 1 where left out
  at::Tensor left_out;  ///< [n]
  bool half_space = false;
};

/// Decides between candidates by their angles in float64, a few columns a row at a time: the first exact duplicate
/// settles a row, so a cluster of m equal rows costs m angles, not m * m. `nearest` [n] is on the CPU.
inline void decide(const Candidates& candidates, const SearchedMatrix& matrix, int64_t* nearest) {
  const size_t count = candidates.rows.size();
  std::vector<int64_t> next(candidates.begin.begin(), candidates.begin.end() - 1);
  std::vector<double> best(count, std::numeric_limits<double>::infinity());
  while (true) {
    std::vector<int64_t> owner, first, second;
    for (size_t r = 0; r < count; ++r) {
      const int64_t end = std::min(next[r] + few_candidates, candidates.begin[r + 1]);
      for (; best[r] > 0 && next[r] < end; ++next[r]) {
        owner.push_back(static_cast<int64_t>(r));
        first.push_back(candidates.rows[r]);
        second.push_back(candidates.columns[static_cast<size_t>(next[r])]);
      }
    }
    if (owner.empty()) {
      return;
    }
    const at::Device device = matrix.rows.device();
    const at::Tensor angles =
        pair_angles(matrix.rows, matrix.norms, index_tensor(first, device), index_tensor(second, device)).to(at::kCPU);
    const double* angle = angles.const_data_ptr<double>();
    for (size_t k = 0; k < owner.size(); ++k) {
      const auto r = static_cast<size_t>(owner[k]);
      const double folded = matrix.half_space ? std::min(angle[k], std::numbers::pi - angle[k]) : angle[k];
      if (folded < best[r]) {
        best[r] = folded;
        nearest[first[k]] = second[k];
      }
    }
  }
}

/// Mask [..., t, n] of the columns that may hold the largest true cosine of each row, given computed cosines
/// [..., t, n] (overwritten) of the rows with indices names [..., t] and the bound on their error.
inline at::Tensor candidate_mask(at::Tensor& cosines, const at::Tensor& names, const at::Tensor& left_out,
                                 bool half_space, double error) {
  if (half_space) {
    cosines.abs_();
  }
  cosines.masked_fill_(left_out.unsqueeze(-2), excluded_cosine);
  cosines.scatter_(-1, names.unsqueeze(-1), excluded_cosine);
  return cosines >= cosines.amax(-1, true).sub_(2 * error).clamp_min_(lowest_cosine);
}

/// Steps 2 and 3: the neighbours of some rows of one matrix by cosines in float64; nearest [n] is on the CPU.
inline void search_in_double(const SearchedMatrix& matrix, const std::vector<int64_t>& names, int64_t* nearest) {
  const at::Tensor unit = unit_rows(matrix.rows.to(at::kDouble), matrix.norms).unsqueeze(0);
  const double error = cosine_error(matrix.rows.size(1), std::numeric_limits<double>::epsilon() / 2);
  const auto tile = static_cast<size_t>(std::max<int64_t>(1, tile_elements / matrix.rows.size(0)));
  for (size_t begin = 0; begin < names.size(); begin += tile) {
    const size_t end = std::min(begin + tile, names.size());
    const std::vector<int64_t> part(names.data() + begin, names.data() + end);
    const at::Tensor index = index_tensor(part, matrix.rows.device());
    at::Tensor cosines = blocked_product(unit.index_select(1, index), unit).squeeze(0);
    const at::Tensor mask = candidate_mask(cosines, index, matrix.left_out, matrix.half_space, error);
    decide(Candidates::from_mask(mask, part), matrix, nearest);
  }
}

/// Step 1 for one matrix of a tile: takes the rows with one candidate, decides those with few, and returns the others.
/// The tile's tensors are of its t rows, which begin at row `start`; takes_part [n] is on the CPU.
struct TileResult {
  at::Tensor mask;   ///< [t, n] on the device
  at::Tensor count;  ///< [t] on the CPU
  at::Tensor best;   ///< [t] on the CPU
};

inline void settle_tile(const TileResult& tile, int64_t start, const bool* takes_part, const SearchedMatrix& matrix,
                        int64_t* nearest, std::vector<int64_t>& unsettled) {
  const int64_t* count = tile.count.const_data_ptr<int64_t>();
  const int64_t* best = tile.best.const_data_ptr<int64_t>();
  std::vector<int64_t> few_rows, few_names;
  for (int64_t t = 0; t < tile.count.numel(); ++t) {
    if (!takes_part[start + t] || count[t] == 0) {
      continue;
    }
    if (count[t] == 1) {
      nearest[start + t] = best[t];
    } else if (count[t] <= few_candidates) {
      few_rows.push_back(t);
      few_names.push_back(start + t);
    } else {
      unsettled.push_back(start + t);
    }
  }
  if (!few_rows.empty()) {
    const at::Tensor mask = tile.mask.index_select(0, index_tensor(few_rows, matrix.rows.device()));
    decide(Candidates::from_mask(mask, few_names), matrix, nearest);
  }
}

/// Whether a float32 product is a float32 product: on a CPU, "medium" precision lets oneDNN take bfloat16 instead.
inline bool float32_products_are_exact(at::Device device) {
  return !device.is_cpu() || at::globalContext().float32MatmulPrecision() == at::Float32MatmulPrecision::HIGHEST;
}

/// All matrices of a call.
struct SearchedBatch {
  at::Tensor rows;      ///< [b, n, d]
  at::Tensor norms;     ///< [b, n] float64, 1 where left out
  at::Tensor left_out;  ///< [b, n]
  bool half_space = false;

  SearchedMatrix operator[](int64_t b) const { return {rows[b], norms[b], left_out[b], half_space}; }
};

/// Step 1 over all matrices, in float32; fills nearest [b, n] and lists what float64 has to settle.
inline std::vector<std::vector<int64_t>> search_in_float(const SearchedBatch& matrices, const bool* takes_part,
                                                         int64_t* nearest) {
  const int64_t batch = matrices.rows.size(0), n = matrices.rows.size(1);
  const at::Tensor unit = unit_rows(matrices.rows, matrices.norms);
  const at::Tensor names = at::arange(n, matrices.rows.options().dtype(at::kLong)).expand({batch, n});
  const double error = cosine_error(matrices.rows.size(2), std::numeric_limits<float>::epsilon() / 2);
  const int64_t tile = std::max<int64_t>(1, tile_elements / (batch * n));
  std::vector<std::vector<int64_t>> unsettled(static_cast<size_t>(batch));
  for (int64_t start = 0; start < n; start += tile) {
    const int64_t size = std::min(tile, n - start);
    at::Tensor cosines = blocked_product(unit.narrow(1, start, size), unit);
    const at::Tensor mask =
        candidate_mask(cosines, names.narrow(1, start, size), matrices.left_out, matrices.half_space, error);
    const at::Tensor count = mask.sum(-1).to(at::kCPU);
    const at::Tensor best = cosines.argmax(-1).to(at::kCPU);
    for (int64_t b = 0; b < batch; ++b) {
      settle_tile({mask[b], count[b], best[b]}, start, takes_part + b * n, matrices[b], nearest + b * n,
                  unsettled[static_cast<size_t>(b)]);
    }
  }
  return unsettled;
}

/// The same on a CPU in T, the rows' own type, by tiles of the upper triangle; also decides between few candidates.
template <typename T>
std::vector<std::vector<int64_t>> search_tiles_on_cpu(const SearchedBatch& matrices, const bool* takes_part,
                                                      int64_t* nearest) {
  const int64_t batch = matrices.rows.size(0), n = matrices.rows.size(1);
  const at::Tensor norms = matrices.norms.contiguous();
  const auto* norm = norms.const_data_ptr<double>();
  CpuSearch<T> search(matrices.rows.contiguous().unbind());
  for (int64_t b = 0; b < batch; ++b) {
    search.set_norms(static_cast<size_t>(b), norm + b * n, takes_part + b * n);
  }
  search.search(0, static_cast<size_t>(batch), matrices.half_space);
  std::vector<std::vector<int64_t>> unsettled(static_cast<size_t>(batch));
  for_each_range(batch * n, rows_per_thread(matrices.rows.size(2)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const CpuNeighbour found = search.nearest(static_cast<size_t>(r / n), r % n, norm + r - r % n);
      nearest[r] = found.settled ? found.index : -1;
    }
  });
  for (int64_t r = 0; r < batch * n; ++r) {
    if (nearest[r] < 0) {
      nearest[r] = r % n;
      unsettled[static_cast<size_t>(r / n)].push_back(r % n);
    }
  }
  return unsettled;
}

/// The index [b, n] (int64, on the device) of the row nearest in angle to each row of rows [b, n, d], float32 or
/// float64, given their norms [b, n] and which of them are usable; over the half-space nearest to the row or to its
/// negative. Rows that are not usable or not finite neither have nor are a neighbour: they, and a row without any, name
/// themselves.
inline at::Tensor nearest_rows(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& usable,
                               bool half_space = false) {
  const FullPrecisionGuard guard;
  const int64_t batch = rows.size(0), n = rows.size(1);
  const at::Tensor takes_part = usable.logical_and(norms.isfinite());
  const at::Tensor left_out = takes_part.logical_not();
  const SearchedBatch matrices{rows, norms.masked_fill(left_out, 1.0), left_out, half_space};
  const at::Tensor on_host = takes_part.to(at::kCPU).contiguous();
  const bool* flags = on_host.const_data_ptr<bool>();
  at::Tensor nearest = at::arange(n, at::TensorOptions(at::kLong)).expand({batch, n}).contiguous();
  auto* found = nearest.mutable_data_ptr<int64_t>();

  std::vector<std::vector<int64_t>> unsettled(static_cast<size_t>(batch));
  if (rows.is_cpu() && rows.scalar_type() == at::kDouble) {
    unsettled = search_tiles_on_cpu<double>(matrices, flags, found);
  } else if (rows.is_cpu() && float32_products_are_exact(rows.device())) {
    unsettled = search_tiles_on_cpu<float>(matrices, flags, found);
  } else if (rows.scalar_type() == at::kFloat && float32_products_are_exact(rows.device())) {
    unsettled = search_in_float(matrices, flags, found);
  } else {
    for (int64_t k = 0; k < batch * n; ++k) {
      if (flags[k]) {
        unsettled[static_cast<size_t>(k / n)].push_back(k % n);
      }
    }
  }
  for (int64_t b = 0; b < batch; ++b) {
    if (const auto& names = unsettled[static_cast<size_t>(b)]; !names.empty()) {
      search_in_double(matrices[b], names, found + b * n);
    }
  }
  return nearest.to(rows.device());
}

}  // namespace mma::detail
