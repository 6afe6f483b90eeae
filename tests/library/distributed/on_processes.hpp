// A test's body on several processes that it starts itself, with a process group over loopback. What goes wrong in one
// of them is the test's failure, with the rank; one that hangs is ended.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <cstdint>
#include <functional>
#include <vector>

namespace distributed {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

/// body(group) on `count` processes, which are copies of this one: EXPECT and ASSERT in it work as elsewhere.
void on_processes(int count, const std::function<void(const Group&)>& body);

/// On 1, 2 and 4 processes.
void on_all_counts(const std::function<void(const Group&)>& body);

}  // namespace distributed
