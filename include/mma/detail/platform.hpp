// The one place for what depends on the platform: libraries that are loaded, or can be, at run time (dlopen), and shell
// patterns, matched by ourselves because <fnmatch.h> is not everywhere.
#pragma once

#ifdef __linux__
#include <dlfcn.h>

#include <array>
#endif

#include <cstddef>
#include <string>
#include <string_view>

namespace mma::detail {

/// A library of functions found by name. It is never closed: what was found in it may be in use until the end. Where
/// the platform is not known nothing is ever found.
class SharedLibrary {
 public:
  enum class Open {
    Load,      ///< loads it if need be
    IfLoaded,  ///< only one that the process has loaded already
  };

  /// No library.
  SharedLibrary() = default;

  /// By file name as the system's loader takes it; no library where it cannot be had.
  explicit SharedLibrary(const std::string& name, Open how = Open::Load) : handle_(opened(name, how)) {}

  explicit operator bool() const { return handle_ != nullptr; }

  /// Sets a pointer to a function; to nullptr where the library has none of that name.
  template <typename Function>
  void find(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(address(name));
  }

  /// The same among all that the code which asks can see: its own library's, and what the process has loaded for all.
  template <typename Function>
  static void find_in_process(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(address_in_process(name));
  }

#ifdef __linux__
  /// The folder it was loaded from; empty where there is none.
  std::string folder() const {
    std::array<char, 4096> origin{};
    return handle_ != nullptr && dlinfo(handle_, RTLD_DI_ORIGIN, origin.data()) == 0 ? origin.data() : "";
  }

 private:
  static void* opened(const std::string& name, Open how) {
    return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | (how == Open::IfLoaded ? RTLD_NOLOAD : 0));
  }
  static void* address_in_process(const char* name) { return dlsym(RTLD_DEFAULT, name); }
  void* address(const char* name) const { return handle_ == nullptr ? nullptr : dlsym(handle_, name); }
#else
  /// The folder it was loaded from; empty where there is none.
  std::string folder() const { return ""; }

 private:
  static void* opened(const std::string&, Open) { return nullptr; }
  static void* address_in_process(const char*) { return nullptr; }
  void* address(const char*) const { return nullptr; }
#endif

  void* handle_ = nullptr;
};

namespace shell {

/// One character of a set, an escaped one as itself; moves past it.
inline unsigned char set_member(std::string_view pattern, size_t& at) {
  if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
  return static_cast<unsigned char>(pattern[at++]);
}

/// Where the set that begins with the '[' at `start` ends: just past its ']', or `start` where it is never closed.
inline size_t end_of_set(std::string_view pattern, size_t start) {
  size_t at = start + 1;
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) ++at;
  for (const size_t first = at; at < pattern.size(); ++at) {
    if (pattern[at] == ']' && at > first) {
      return at + 1;
    }
    if (pattern[at] == '\\') ++at;
  }
  return start;
}

/// Whether a character is in the set [start, end) of the pattern: [abc], [a-z], [!a-z]. A ']' that comes first, and a
/// '-' that comes first or last, stand for themselves.
inline bool set_holds(std::string_view pattern, size_t start, size_t end, char character) {
  const auto sought = static_cast<unsigned char>(character);
  size_t at = start + 1;
  const bool inverted = pattern[at] == '!' || pattern[at] == '^';
  if (inverted) ++at;
  bool found = false;
  while (at < end - 1) {
    const unsigned char low = set_member(pattern, at);
    unsigned char high = low;
    if (at + 1 < end - 1 && pattern[at] == '-') {
      high = set_member(pattern, ++at);
    }
    found = found || (low <= sought && sought <= high);
  }
  return found != inverted;
}

/// Matches one character against what begins at `at` of the pattern (no '*') and moves past that.
inline bool matches_one(std::string_view pattern, size_t& at, char character) {
  if (pattern[at] == '[') {
    if (const size_t start = at, end = end_of_set(pattern, at); end > start) {
      at = end;
      return set_holds(pattern, start, end, character);
    }
  }
  if (pattern[at] == '?') {
    ++at;
    return true;
  }
  if (pattern[at] == '\\') {
    if (++at == pattern.size()) {
      return false;
    }
  }
  return pattern[at++] == character;
}

}  // namespace shell

/// Whether a shell pattern matches the whole name: * for any characters, ? for one, [abc] [a-z] [!abc] for one of a set
/// or none of it, \ before a character that stands for itself. A dot or a slash is a character like any other, a '['
/// that is never closed stands for itself. As fnmatch(pattern, name, 0) in the C locale, without [:classes:].
inline bool matches(std::string_view pattern, std::string_view name) {
  constexpr size_t none = std::string_view::npos;
  size_t at = 0, position = 0;
  size_t after_star = none, star_took_until = 0;  // the last '*': where the pattern goes on, what it has swallowed
  while (position < name.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      after_star = ++at;
      star_took_until = position;
    } else if (at < pattern.size() && shell::matches_one(pattern, at, name[position])) {
      ++position;
    } else if (after_star != none) {
      at = after_star;
      position = ++star_took_until;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == none;
}

}  // namespace mma::detail
