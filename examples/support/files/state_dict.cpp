#include "support/files/state_dict.hpp"

#include <algorithm>
#include <set>
#include <unordered_set>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using Kind = PickleValue::Kind;

constexpr int deepest = 64;
constexpr size_t longest_name = 1000;
constexpr size_t longest_list = 12;  // of keys in a sentence

/// A key, or the place in a list. A view, since a pickle can give one long text to many dictionaries.
struct Name {
  std::string_view text;
  int64_t number = 0;
  bool is_text = false;

  std::string str() const { return is_text ? std::string(text) : std::to_string(number); }
  size_t size() const { return is_text ? text.size() : 20; }
};

struct NamedValue {
  Name name;
  const PickleValue* value;
};

/// A list's elements or a dictionary's keys and values: the value that they stand in.
struct Holder {
  enum class Layout { KeysAndValues, Elements, ListsOfTwo };
  const PickleValue* values = nullptr;  ///< nullptr: holds nothing
  Layout layout = Layout::KeysAndValues;
};

/// `place`: for keys that are neither texts nor whole numbers.
Name name_of(const PickleValue& key, size_t place) {
  if (is_text(key)) return {key.text, 0, true};
  return {{}, key.is(Kind::Int) ? key.integer : static_cast<int64_t>(place), false};
}

bool is_list(const PickleValue& value) { return value.is(Kind::List) || value.is(Kind::Tuple); }

/// LibTorch writes down which type a container has.
const PickleValue& untagged(const PickleValue& value) {
  const PickleValue* inner = &value;
  for (int tags = 0; tags < 4 && is_call_of(*inner, "torch.jit._pickle.restore_type_tag", 1); ++tags) {
    inner = inner->arguments->items[0];
  }
  return *inner;
}

Holder holder_of(const PickleValue& tagged) {
  const PickleValue& value = untagged(tagged);
  if (value.is(Kind::Dict)) return {&value};
  if (is_list(value)) return {&value, Holder::Layout::Elements};
  if (!value.is(Kind::Object)) return {};
  if (!value.items.empty()) return {&value};
  // Python 2 wrote the contents of an OrderedDict as an argument: [[key, value], ...].
  if (is_call_of(value, "collections.OrderedDict", 1) && is_list(*value.arguments->items[0])) {
    return {value.arguments->items[0], Holder::Layout::ListsOfTwo};
  }
  return value.state != nullptr && value.state->is(Kind::Dict) ? Holder{value.state} : Holder{};
}

std::vector<NamedValue> entries_of(const Holder& holder) {
  std::vector<NamedValue> entries;
  const auto& items = holder.values->items;
  switch (holder.layout) {
    case Holder::Layout::KeysAndValues:
      for (size_t i = 0; i + 1 < items.size(); i += 2) entries.push_back({name_of(*items[i], i / 2), items[i + 1]});
      break;
    case Holder::Layout::Elements:
      for (size_t i = 0; i < items.size(); ++i) entries.push_back({{{}, static_cast<int64_t>(i), false}, items[i]});
      break;
    case Holder::Layout::ListsOfTwo:
      for (const PickleValue* item : items) {
        if (item->items.size() == 2) entries.push_back({name_of(*item->items[0], entries.size()), item->items[1]});
      }
  }
  return entries;
}

bool has_key(const std::vector<NamedValue>& entries, std::string_view key) {
  return std::ranges::any_of(entries,
                             [&](const NamedValue& entry) { return entry.name.is_text && entry.name.text == key; });
}

/// A module of LibTorch or TorchScript, whose attributes are parameters, buffers and modules.
bool is_module(const PickleValue& value) { return value.is(Kind::Object) && value.text.starts_with("__torch__."); }

/// Attributes of a module of Python's PyTorch.
bool is_python_module(const std::vector<NamedValue>& attributes) {
  return has_key(attributes, "_parameters") && has_key(attributes, "_modules");
}

std::string printable(std::string text) {
  if (text.size() > 80) text = text.substr(0, 80) + "...";
  for (char& character : text) {
    if (static_cast<unsigned char>(character) < ' ') character = '?';
  }
  return text;
}

/// All tensors below a value, each list and dictionary once.
class Collector {
 public:
  explicit Collector(const std::string& file) : file_(file) {}

  void collect(const PickleValue& value, const std::string& prefix = "", int depth = 0) {
    const Holder holder = holder_of(value);
    if (holder.values == nullptr || depth > deepest || !visited_.insert(holder.values).second) return;
    const std::vector<NamedValue> entries = entries_of(holder);
    if (is_python_module(entries)) return;
    for (const auto& [name, child] : entries) {
      if (prefix.size() + name.size() > longest_name) {
        throw UserError(file_ + ": names a tensor with more than 1000 characters");
      }
      if (!add(prefix, name, *child)) collect(*child, prefix + name.str() + '.', depth + 1);
    }
  }

  /// The tensors of one dictionary or list alone.
  void collect_own(const Holder& holder) {
    for (const auto& [name, child] : entries_of(holder)) add("", name, *child);
  }

  PickledTensors take() { return std::move(tensors_); }

 private:
  bool add(const std::string& prefix, const Name& name, const PickleValue& value) {
    std::optional<PickledTensor> tensor = pickled_tensor(value);
    if (!tensor) return false;
    std::string full = prefix + name.str();
    if (!names_.insert(full).second) throw UserError(file_ + ": holds the tensor '" + printable(full) + "' twice");
    tensors_.emplace_back(std::move(full), std::move(*tensor));
    return true;
  }

  const std::string& file_;
  PickledTensors tensors_;
  std::set<std::string> names_;
  std::unordered_set<const PickleValue*> visited_;
};

/// Looks through a whole pickle, each list and dictionary once.
class Search {
 public:
  Search(const PickleValue& root, const std::string& file) : root_(root), file_(file) {
    visit({.value = &root});
    while (next_ < nodes_.size()) look_into(next_++);
  }

  PickledTensors only() const {
    for (const auto counted : {&Node::named_matrices, &Node::named, &Node::tensors}) {
      std::vector<size_t> found;
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (nodes_[i].*counted > 0) found.push_back(i);
      }
      if (found.size() > 1) fail("holds several dictionaries of tensors; --key chooses one of: " + list(found));
      if (found.size() == 1) return tensors_of(nodes_[found.front()]);
    }
    if (const auto tensor = pickled_tensor(root_)) return {{"tensor", *tensor}};
    fail(nothing_found() + "; expected torch.save(model.state_dict(), ...)");
  }

  PickledTensors under(const std::string& key) const {
    Collector collector(file_);
    if (const PickleValue* value = key == "." ? &root_ : descend(root_, key)) collector.collect(*value);
    PickledTensors tensors = collector.take();
    if (!tensors.empty()) return tensors;
    std::vector<size_t> others;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].tensors > 0) others.push_back(i);
    }
    fail("--key " + printable(key) + " leads to no tensors" +
         (others.empty() ? "; " + nothing_found() : "; they lie under: " + list(others)));
  }

 private:
  struct Node {
    const PickleValue* value = nullptr;
    Holder holder = {};
    size_t parent = 0;
    Name name = {};
    int depth = 0;
    bool module = false;  ///< with all that is in it
    int64_t tensors = 0, named = 0, named_matrices = 0;
  };

  [[noreturn]] void fail(const std::string& what) const { throw UserError(file_ + ": " + what); }

  void visit(Node node) {
    node.holder = holder_of(*node.value);
    const bool is_empty = node.holder.values == nullptr || node.holder.values->items.empty();
    if (is_empty || node.depth > deepest || !visited_.insert(node.holder.values).second) return;
    nodes_.push_back(node);
  }

  void look_into(size_t place) {
    Node node = nodes_[place];
    node.module = is_module(untagged(*node.value));
    if (node.module) {
      Collector collector(file_);
      collector.collect(*node.value);
      for (const auto& [name, tensor] : collector.take()) count(node, true, tensor);
    } else {
      look_through(node, place);
    }
    nodes_[place] = node;
  }

  void look_through(Node& node, size_t place) {
    const std::vector<NamedValue> entries = entries_of(node.holder);
    if (has_key(entries, "param_groups")) {
      has_optimizer_ = true;
      return;
    }
    if (is_python_module(entries)) {
      if (whole_model_.empty()) whole_model_ = node.value->text.empty() ? "of a class" : node.value->text;
      return;
    }
    for (const auto& [name, child] : entries) {
      if (const auto tensor = pickled_tensor(*child)) {
        count(node, name.is_text, *tensor);
      } else {
        visit({.value = child, .parent = place, .name = name, .depth = node.depth + 1});
      }
    }
  }

  static void count(Node& node, bool is_named, const PickledTensor& tensor) {
    node.tensors += 1;
    node.named += is_named ? 1 : 0;
    node.named_matrices += is_named && tensor.dimensions() >= 2 ? 1 : 0;
  }

  PickledTensors tensors_of(const Node& node) const {
    Collector collector(file_);
    if (node.module) {
      collector.collect(*node.value);
    } else {
      collector.collect_own(node.holder);
    }
    return collector.take();
  }

  /// The value under a dotted key, whose parts may themselves hold dots; nullptr: there is none.
  const PickleValue* descend(const PickleValue& value, std::string_view key) const {
    const Holder holder = holder_of(value);
    if (holder.values == nullptr) return nullptr;
    for (const auto& [name, child] : entries_of(holder)) {
      if (name.size() > key.size() && name.is_text) continue;
      const std::string part = name.str();
      if (part == key) return child;
      if (!key.starts_with(part + '.')) continue;
      if (const PickleValue* found = descend(*child, key.substr(part.size() + 1))) return found;
    }
    return nullptr;
  }

  std::string path_of(size_t place) const {
    if (place == 0) return ".";
    std::string path;
    for (; place != 0; place = nodes_[place].parent) {
      path = nodes_[place].name.str().substr(0, 100) + (path.empty() ? "" : ".") + path;
    }
    return printable(path);
  }

  std::string list(const std::vector<size_t>& places) const {
    std::string text;
    for (size_t i = 0; i < std::min(places.size(), longest_list); ++i) {
      const int64_t count = nodes_[places[i]].tensors;
      text += (i == 0 ? "" : ", ") + path_of(places[i]) + " (" + std::to_string(count) +
              (count == 1 ? " tensor)" : " tensors)");
    }
    if (places.size() > longest_list) text += " and " + std::to_string(places.size() - longest_list) + " more";
    return text;
  }

  std::string nothing_found() const {
    if (!whole_model_.empty())
      return "holds a whole pickled model (" + printable(std::string(whole_model_)) +
             "), which only its program can build";
    return has_optimizer_ ? "holds an optimizer's state, but no network's tensors" : "holds no tensors by name";
  }

  const PickleValue& root_;
  const std::string& file_;
  std::vector<Node> nodes_;
  size_t next_ = 0;
  std::unordered_set<const PickleValue*> visited_;
  bool has_optimizer_ = false;
  std::string_view whole_model_;
};

}  // namespace

PickledTensors find_state_dict(const PickleValue& root, const std::string& key, const std::string& file) {
  const Search search(root, file);
  return key.empty() ? search.only() : search.under(key);
}

}  // namespace mma::examples
