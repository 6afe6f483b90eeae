// Reads Python's pickles as data: nothing is ever executed, imported or looked up. The result is a tree in which a call
// of a Python function, or the making of an object of any class, is only its name with the arguments.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mma::examples {

struct PickleValue {
  enum class Kind { None, Bool, Int, Float, String, Bytes, List, Tuple, Set, Dict, Global, Object, Persistent };

  Kind kind = Kind::None;
  int64_t integer = 0;  ///< Int, Bool
  double number = 0;    ///< Float
  std::string_view text =
      {};  ///< String, Bytes: the contents; Global: "module.name"; Object: the name of what was called
  std::vector<const PickleValue*> items = {};  ///< elements; of a Dict, and of an Object used as one: key, value, key,
                                               ///< ..., the key of what was appended None
  const PickleValue* arguments = nullptr;      ///< Object: what it was called with, a Tuple; Persistent: its id
  const PickleValue* state = nullptr;          ///< Object: what Python would set its attributes from; nullptr: nothing

  bool is(Kind other) const { return kind == other; }
};

/// A pickle of protocol 2 to 5, at the start of the bytes, and its values. Values may refer to each other in circles,
/// as Python's lists can: walk them to a fixed depth only. Time and memory are bounded by the length of the pickle.
class Pickle {
 public:
  /// Throws UserError, with sentences that begin with `name`, for a truncated or damaged pickle.
  Pickle(std::string bytes, const std::string& name);

  /// The same, and for a pickle that uses a Python name outside the list.
  Pickle(std::string bytes, const std::set<std::string, std::less<>>& allowed_names, const std::string& name);
  Pickle(const Pickle&) = delete;
  Pickle& operator=(const Pickle&) = delete;

  const PickleValue& root() const { return *root_; }
  const std::deque<PickleValue>& values() const { return values_; }  ///< all, each once
  size_t size() const { return size_; }                              ///< in bytes; others may follow it

 private:
  friend class Unpickler;

  std::string bytes_;  // texts point into it
  std::deque<PickleValue> values_;
  std::set<std::string, std::less<>> names_;
  const PickleValue* root_ = nullptr;
  size_t size_ = 0;
};

/// True for a call, written down in a pickle, of this name with at least so many arguments. A name "numpy._core." also
/// stands for NumPy 1's "numpy.core.".
bool is_call_of(const PickleValue& value, std::string_view name, size_t arguments);

}  // namespace mma::examples
