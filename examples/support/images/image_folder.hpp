// Folders of images as people keep them: which files are images, in which order, and a folder unpacked into one of the
// same name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mma::examples {

/// ".jpg", ".jpeg", ".png", ".pgm": an image's ending, in any case.
const std::vector<std::string>& image_endings();

/// By its name alone: one of the endings, and no dot at the beginning, as macOS's ._x.jpg has.
bool is_image_name(const std::filesystem::path& path);

/// The paths in a folder whose names do not begin with a dot, numbers in names by their value (2.png before 10.png).
/// Throws UserError when the folder cannot be read.
std::vector<std::filesystem::path> visible_entries(const std::filesystem::path& folder);

/// The images among them.
std::vector<std::filesystem::path> images_in(const std::filesystem::path& folder);

/// The images in a folder and in the folders inside it, in the order of their paths. Throws UserError for a folder that
/// cannot be read, and for folders that go deeper than any tree of images (a link that leads back).
std::vector<std::filesystem::path> images_below(const std::filesystem::path& folder);

/// lfw/lfw for lfw where an archive was unpacked like that: the inner folder holds folders itself.
std::filesystem::path without_repeated_folder(const std::filesystem::path& folder);

}  // namespace mma::examples
