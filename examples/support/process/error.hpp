// What a user did wrong, in one sentence, and how a program ends with it: the sentence on stderr, exit code 2.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

namespace mma::examples {

/// Bad input: the message is one sentence that names the culprit and says what was expected.
struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool condition, const std::string& sentence) {
  if (!condition) throw UserError(sentence);
}

/// "not enough memory for 3000000000 more bytes" where LibTorch or the standard library was given none; empty for other
/// errors.
std::optional<std::string> memory_shortage(const std::exception& error);

/// Runs a program's body and returns its exit code; every exception becomes one line "program: sentence" on stderr.
/// UserError exits with 2, as does an error of std::filesystem (names the file) and a standard output that did not take
/// all that was printed; anything else with 3, a shortage of memory too.
int run_program(const char* program, const std::function<int()>& body);

}  // namespace mma::examples
