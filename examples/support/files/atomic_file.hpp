// A file is either the old one or the whole new one, never half: temporary file in the same folder, fsync, rename.
#pragma once

#include <filesystem>
#include <functional>
#include <ostream>
#include <string>

namespace mma::examples {

/// Calls write with a binary stream; when it returns and every byte is on the disk, the file replaces path.
/// Throws UserError (and removes the temporary file, leaving what was at path) when anything fails: folder absent,
/// no permission, disk full.
void write_atomically(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);
void write_atomically(const std::filesystem::path& path, const std::string& text);

/// Removes from a folder what write_atomically had begun to write there when its process was killed. Of a process that
/// lives nothing.
void remove_unfinished_files(const std::filesystem::path& folder);

}  // namespace mma::examples
