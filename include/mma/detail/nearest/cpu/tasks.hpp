// How the work on the rows of several matrices is spread over LibTorch's threads: tasks of about the same work, each
// thread taking the next one that is left. What a row gets does not depend on the thread that takes it.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../pairs/lists.hpp"
#include "../../threads.hpp"

namespace mma::detail::nearest::cpu {

/// One matrix of several whose rows are numbered end to end.
template <typename T>
struct RowMatrix {
  const T* rows;  ///< [n, dimension] contiguous
  int64_t n, dimension;
  int64_t offset;  ///< number of its first row

  const T* row(int64_t r) const { return rows + r * dimension; }
};

template <typename T>
inline constexpr double duplicate_distance =
    std::is_same_v<T, double> ? pairs::duplicate_of_double : pairs::duplicate_of_float;

/// A matrix and its rows' norms [n].
template <typename T>
struct NormedRows {
  const RowMatrix<T>& matrix;
  const double* norms;
};

/// |a - b| and |a + b| of row r of one matrix and row s of another, or of the same.
template <typename T>
pairs::Lengths lengths(const NormedRows<T>& a, int64_t r, const NormedRows<T>& b, int64_t s, bool obtuse = false) {
  return pairs::pair_lengths(a.matrix.row(r), 1 / a.norms[r], b.matrix.row(s), 1 / b.norms[s], a.matrix.dimension,
                             obtuse);
}

/// The tasks [begin, end) of a list that belong to some matrices.
struct TaskRange {
  int64_t begin = 0, end = 0;
};

/// Runs task(k, thread) for the tasks of a range. `work` in multiply-adds: little of it is not worth waking a thread.
template <typename Task>
void for_each_task(const TaskRange& range, double work, const Task& task) {
  constexpr double worthwhile = 1 << 18;
  const auto threads =
      std::min<int64_t>({at::get_num_threads(), range.end - range.begin, 1 + static_cast<int64_t>(work / worthwhile)});
  for_each_index(range.begin, range.end, threads, task);
}

/// The rows of several matrices.
class RowTasks {
 public:
  template <typename T>
  explicit RowTasks(const std::vector<RowMatrix<T>>& matrices) {
    for (size_t m = 0; m < matrices.size(); ++m) {
      const int64_t step = pairs::rows_per_thread(matrices[m].dimension);
      for (int64_t begin = 0; begin < matrices[m].n; begin += step) {
        tasks_.push_back({m, begin, std::min(begin + step, matrices[m].n)});
      }
      first_task_.push_back(static_cast<int64_t>(tasks_.size()));
      first_entry_.push_back(first_entry_.back() + static_cast<double>(matrices[m].n * matrices[m].dimension));
    }
  }

  /// row(matrix, row within it, thread) for all rows of the matrices [begin, end).
  template <typename Row>
  void for_each(size_t begin, size_t end, const Row& row) const {
    for_each_task({first_task_[begin], first_task_[end]}, first_entry_[end] - first_entry_[begin],
                  [&](int64_t k, size_t thread) {
                    const Task& task = tasks_[static_cast<size_t>(k)];
                    for (int64_t r = task.begin; r < task.end; ++r) {
                      row(task.matrix, r, thread);
                    }
                  });
  }

 private:
  struct Task {
    size_t matrix;
    int64_t begin, end;
  };
  std::vector<Task> tasks_;
  std::vector<int64_t> first_task_{0};  ///< of each matrix, and the end
  std::vector<double> first_entry_{0.0};
};

}  // namespace mma::detail::nearest::cpu
