#include "torch_save_file.hpp"

#include "error.hpp"

namespace mma::examples {

bool looks_like_old_torch_save(const std::string& start) {
  // A pickle of protocol 2 that begins with the number 0x1950a86a20f9469cfc6c.
  return start.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
}

TensorFile read_torch_save_file(const std::filesystem::path& path) {
  throw UserError(path.string() + ": files of Python's torch.save cannot be read yet");
}

}  // namespace mma::examples
