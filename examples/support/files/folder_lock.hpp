// One program at a time writes a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "support/files/descriptor.hpp"

namespace mma::examples {

/// While it lives, no other FolderLock of this folder can be had, in this program or in another: a lock of the system
/// on the file .lock in the folder, which it releases however the holder ends; what a killed one leaves of the file
/// holds nobody up. Programs that the holder starts do not keep it. Across machines it holds where the file system's
/// locks do (NFS as it is usually mounted). Where a file system has none, one line on stderr says that nothing keeps
/// others out. What a killed holder had only begun to write is removed.
class FolderLock {
 public:
  /// Tries to lock an open file: 0, or what errno says.
  using LockFile = std::function<int(int file)>;

  /// Throws UserError that names the folder, and the process that holds it where that is known.
  explicit FolderLock(const std::filesystem::path& folder);
  FolderLock(const std::filesystem::path& folder, const LockFile& lock_file);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

/// Who holds the folder's FolderLock, "process 123"; std::nullopt when nobody does. Changes nothing.
std::optional<std::string> holder_of(const std::filesystem::path& folder);

}  // namespace mma::examples
