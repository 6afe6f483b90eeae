#include "support/files/unpickler.hpp"

#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t most_values = 4'000'000;  // some 300 MB; the pickle of a large network has some ten thousand

}  // namespace

/// The machine that a pickle drives: a stack of values, with marks on it, and a memo.
class Unpickler {
 public:
  /// `allowed_names`: nullptr for all.
  Unpickler(Pickle& pickle, const std::set<std::string, std::less<>>* allowed_names, const std::string& name)
      : pickle_(pickle), allowed_names_(allowed_names), name_(name), rest_(pickle.bytes_) {}

  void run() {
    if (!rest_.starts_with('\x80')) fail("is not a pickle of protocol 2 or later");
    while (step(static_cast<unsigned char>(take(1)[0]))) {
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(name_ + ": " + what); }
  [[noreturn]] void damaged() const { fail("its pickle is damaged"); }

  // What the pickle's bytes hold.

  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail("its pickle is truncated");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  /// A little-endian number without sign.
  uint64_t take_number(size_t bytes) {
    uint64_t number = 0;
    for (const char byte : take(bytes)) {
      number = number >> 8 | uint64_t{static_cast<unsigned char>(byte)} << 56;
    }
    return number >> (64 - 8 * bytes);
  }

  double take_big_endian_double() {
    uint64_t bits = 0;
    for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
    return std::bit_cast<double>(bits);
  }

  std::string_view take_line() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("its pickle is truncated");
    const std::string_view line = take(end);
    take(1);
    return line;
  }

  // The stack. A mark is a nullptr.

  PickleValue* add(PickleValue value) {
    if (pickle_.values_.size() >= most_values) fail("its pickle holds too many values");
    pickle_.values_.push_back(std::move(value));
    return &pickle_.values_.back();
  }

  void push(PickleValue value) { stack_.push_back(add(std::move(value))); }

  void push_int(int64_t integer, Kind kind = Kind::Int) { push({.kind = kind, .integer = integer}); }
  void push_text(std::string_view text, Kind kind) { push({.kind = kind, .text = text}); }

  PickleValue* top() const {
    if (stack_.empty() || stack_.back() == nullptr) damaged();
    return stack_.back();
  }

  PickleValue* pop() {
    PickleValue* value = top();
    stack_.pop_back();
    return value;
  }

  std::vector<const PickleValue*> pop_to_mark() {
    size_t first = stack_.size();
    while (first > 0 && stack_[first - 1] != nullptr) --first;
    if (first == 0) damaged();
    std::vector<const PickleValue*> values(stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
    stack_.resize(first - 1);
    return values;
  }

  std::vector<const PickleValue*> pop_many(size_t count) {
    std::vector<const PickleValue*> values(count);
    while (count > 0) values[--count] = pop();
    return values;
  }

  void push_tuple(std::vector<const PickleValue*> items) { push({.kind = Kind::Tuple, .items = std::move(items)}); }

  // The opcodes that do more than push.

  void remember(uint64_t key) {
    if (memo_.size() >= most_values) fail("its pickle holds too many values");
    memo_[key] = top();
  }

  void recall(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged();
    stack_.push_back(found->second);
  }

  /// A whole number of up to 8 bytes; longer ones, which no tensor needs, become floating numbers of unknown value.
  void push_long(uint64_t bytes) {
    if (bytes > 8) {
      take(bytes);
      push({.kind = Kind::Float, .number = std::bit_cast<double>(~uint64_t{0})});
    } else if (bytes == 0) {
      push_int(0);
    } else {
      const int unused = static_cast<int>(64 - 8 * bytes);
      push_int(static_cast<int64_t>(take_number(bytes) << unused) >> unused);
    }
  }

  /// INT and LONG: a line of digits, as Python 2 writes numbers of more than 32 bits.
  void push_digits() {
    std::string_view line = take_line();
    if (line.ends_with('L')) line.remove_suffix(1);
    int64_t integer = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), integer);
    if (end != line.data() + line.size() || error == std::errc::invalid_argument) damaged();
    if (error != std::errc()) return push({.kind = Kind::Float, .number = std::bit_cast<double>(~uint64_t{0})});
    push_int(integer);
  }

  void push_global(std::string_view module, std::string_view name) {
    std::string full(module);
    full.append(".").append(name);
    if (allowed_names_ != nullptr && !allowed_names_->contains(full)) {
      fail("refers to Python's " + printable(full) +
           ", which is not plain data; expected tensors, numbers and texts alone");
    }
    push_text(*pickle_.names_.insert(std::move(full)).first, Kind::Global);
  }

  void push_stack_global() {
    const PickleValue* name = pop();
    const PickleValue* module = pop();
    if (!name->is(Kind::String) || !module->is(Kind::String)) damaged();
    push_global(module->text, name->text);
  }

  static std::string printable(std::string_view text) {
    constexpr size_t longest = 80;
    std::string result(text.substr(0, longest));
    for (char& character : result) {
      if (character < ' ' || character > '~') character = '?';
    }
    return result;
  }

  /// Python would call; here the call is written down, without a name when what is called was itself made by a call.
  void push_call(const PickleValue* callee, const PickleValue* arguments) {
    if (!arguments->is(Kind::Tuple)) damaged();
    if (!callee->is(Kind::Global) && !callee->is(Kind::Object) && !callee->is(Kind::Persistent)) damaged();
    const bool is_named = callee->is(Kind::Global);
    push({.kind = Kind::Object, .text = is_named ? callee->text : std::string_view(), .arguments = arguments});
  }

  /// REDUCE and NEWOBJ.
  void push_call() {
    const PickleValue* arguments = pop();
    push_call(pop(), arguments);
  }

  /// NEWOBJ_EX: with arguments by name, which nobody asks for.
  void push_call_with_names() {
    pop();
    push_call();
  }

  /// OBJ: the class, then its arguments, above a mark.
  void push_object() {
    const std::vector<const PickleValue*> values = pop_to_mark();
    if (values.empty()) damaged();
    push_call(values.front(), add({.kind = Kind::Tuple, .items = {values.begin() + 1, values.end()}}));
  }

  /// INST: the arguments above a mark, the class in two lines.
  void push_instance() {
    const PickleValue* arguments = add({.kind = Kind::Tuple, .items = pop_to_mark()});
    push_global_lines();
    push_call(pop(), arguments);
  }

  void set_items(const std::vector<const PickleValue*>& pairs) {
    PickleValue* target = top();
    if ((!target->is(Kind::Dict) && !target->is(Kind::Object)) || pairs.size() % 2 != 0) damaged();
    target->items.insert(target->items.end(), pairs.begin(), pairs.end());
  }

  /// To a list or a set; an object of another class may be used as one.
  void append(const std::vector<const PickleValue*>& values, Kind kind) {
    static const PickleValue none;
    PickleValue* target = top();
    if (target->is(Kind::Object)) {
      for (const PickleValue* value : values) target->items.insert(target->items.end(), {&none, value});
      return;
    }
    if (!target->is(kind)) damaged();
    target->items.insert(target->items.end(), values.begin(), values.end());
  }

  /// The attributes of an object: an OrderedDict's _metadata, the shape and contents of an array of NumPy.
  void keep_state() {
    const PickleValue* state = pop();
    if (!top()->is(Kind::Object) && !top()->is(Kind::Persistent)) damaged();
    top()->state = state;
  }

  /// One opcode, named as in Python's pickletools; false at the end.
  bool step(unsigned char opcode) {
    // clang-format off
    switch (opcode) {
      case 0x80:  // PROTO
        if (const uint64_t protocol = take_number(1); protocol < 2 || protocol > 5) {
          fail("its pickle has the unknown protocol " + std::to_string(protocol));
        }
        break;
      case 0x95: take_number(8); break;                                                     // FRAME
      case '.': return stop();                                                              // STOP
      case '(': stack_.push_back(nullptr); break;                                           // MARK
      case '0': pop(); break;                                                               // POP
      case '1': pop_to_mark(); break;                                                       // POP_MARK
      case '2': stack_.push_back(top()); break;                                             // DUP
      case 'N': push({}); break;                                                            // NONE
      case 0x88: push_int(1, Kind::Bool); break;                                            // NEWTRUE
      case 0x89: push_int(0, Kind::Bool); break;                                            // NEWFALSE
      case 'J': push_int(static_cast<int32_t>(take_number(4))); break;                      // BININT
      case 'K': push_int(static_cast<int64_t>(take_number(1))); break;                      // BININT1
      case 'M': push_int(static_cast<int64_t>(take_number(2))); break;                      // BININT2
      case 0x8a: push_long(take_number(1)); break;                                          // LONG1
      case 0x8b: push_long(take_number(4)); break;                                          // LONG4
      case 'I':                                                                             // INT
      case 'L': push_digits(); break;                                                       // LONG
      case 'G': push({.kind = Kind::Float, .number = take_big_endian_double()}); break;     // BINFLOAT
      case 'X': push_text(take(take_number(4)), Kind::String); break;                       // BINUNICODE
      case 0x8c: push_text(take(take_number(1)), Kind::String); break;                      // SHORT_BINUNICODE
      case 0x8d: push_text(take(take_number(8)), Kind::String); break;                      // BINUNICODE8
      case 'T': push_text(take(take_number(4)), Kind::Bytes); break;                        // BINSTRING
      case 'U': push_text(take(take_number(1)), Kind::Bytes); break;                        // SHORT_BINSTRING
      case 'B': push_text(take(take_number(4)), Kind::Bytes); break;                        // BINBYTES
      case 'C': push_text(take(take_number(1)), Kind::Bytes); break;                        // SHORT_BINBYTES
      case 0x8e: push_text(take(take_number(8)), Kind::Bytes); break;                       // BINBYTES8
      case 0x96: push_text(take(take_number(8)), Kind::Bytes); break;                       // BYTEARRAY8
      case ']': push({.kind = Kind::List}); break;                                          // EMPTY_LIST
      case '}': push({.kind = Kind::Dict}); break;                                          // EMPTY_DICT
      case 0x8f: push({.kind = Kind::Set}); break;                                          // EMPTY_SET
      case ')': push_tuple({}); break;                                                      // EMPTY_TUPLE
      case 0x85: push_tuple(pop_many(1)); break;                                            // TUPLE1
      case 0x86: push_tuple(pop_many(2)); break;                                            // TUPLE2
      case 0x87: push_tuple(pop_many(3)); break;                                            // TUPLE3
      case 't': push_tuple(pop_to_mark()); break;                                           // TUPLE
      case 'a': append(pop_many(1), Kind::List); break;                                     // APPEND
      case 'e': append(pop_to_mark(), Kind::List); break;                                   // APPENDS
      case 0x90: append(pop_to_mark(), Kind::Set); break;                                   // ADDITEMS
      case 0x91: push({.kind = Kind::Set, .items = pop_to_mark()}); break;                  // FROZENSET
      case 's': set_items(pop_many(2)); break;                                              // SETITEM
      case 'u': set_items(pop_to_mark()); break;                                            // SETITEMS
      case 'q': remember(take_number(1)); break;                                            // BINPUT
      case 'r': remember(take_number(4)); break;                                            // LONG_BINPUT
      case 0x94: remember(memo_.size()); break;                                             // MEMOIZE
      case 'h': recall(take_number(1)); break;                                              // BINGET
      case 'j': recall(take_number(4)); break;                                              // LONG_BINGET
      case 'c': push_global_lines(); break;                                                 // GLOBAL
      case 0x93: push_stack_global(); break;                                                // STACK_GLOBAL
      case 'R':                                                                             // REDUCE
      case 0x81: push_call(); break;                                                        // NEWOBJ
      case 0x92: push_call_with_names(); break;                                             // NEWOBJ_EX
      case 'o': push_object(); break;                                                       // OBJ
      case 'i': push_instance(); break;                                                     // INST
      case 'b': keep_state(); break;                                                        // BUILD
      case 'Q': push({.kind = Kind::Persistent, .arguments = pop()}); break;                // BINPERSID
      default: refuse(opcode);
    }
    // clang-format on
    return true;
  }

  bool stop() {
    pickle_.root_ = pop();
    pickle_.size_ = pickle_.bytes_.size() - rest_.size();
    return false;
  }

  void push_global_lines() {
    const std::string_view module = take_line();
    push_global(module, take_line());
  }

  [[noreturn]] void refuse(unsigned char opcode) const {
    char text[8];
    std::snprintf(text, sizeof text, "0x%02x", opcode);
    fail(std::string("its pickle uses the opcode ") + text + ", which is unknown or not allowed");
  }

  Pickle& pickle_;
  const std::set<std::string, std::less<>>* allowed_names_;
  const std::string& name_;
  std::string_view rest_;
  std::vector<PickleValue*> stack_;
  std::unordered_map<uint64_t, PickleValue*> memo_;
};

Pickle::Pickle(std::string bytes, const std::string& name) : bytes_(std::move(bytes)) {
  Unpickler(*this, nullptr, name).run();
}

Pickle::Pickle(std::string bytes, const std::set<std::string, std::less<>>& allowed_names, const std::string& name)
    : bytes_(std::move(bytes)) {
  Unpickler(*this, &allowed_names, name).run();
}

bool is_call_of(const PickleValue& value, std::string_view name, size_t arguments) {
  if (!value.is(Kind::Object) || value.arguments->items.size() < arguments) return false;
  if (value.text == name) return true;
  constexpr std::string_view older = "numpy.core.", newer = "numpy._core.";  // before and since NumPy 2
  return name.starts_with(newer) && value.text.starts_with(older) &&
         value.text.substr(older.size()) == name.substr(newer.size());
}

}  // namespace mma::examples
