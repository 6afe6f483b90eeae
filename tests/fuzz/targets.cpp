// Every reader of what others wrote, under libFuzzer: MMA_FUZZ_TARGET names the one. A sentence for the user
// (UserError) is the right answer to bytes that are no file of the kind; everything else that is thrown, undefined
// behaviour, and more time or memory than a file of that size may take is a finding. fuzz.sh builds and runs it.
#include <ATen/Parallel.h>
#include <unistd.h>
#include <mma/options.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "faces/bin_file.hpp"
#include "faces/features_file.hpp"
#include "faces/pairs_file.hpp"
#include "reproduce/metrics_csv.hpp"
#include "support/files/json.hpp"
#include "support/files/tensor_file.hpp"
#include "support/files/unpickler.hpp"
#include "support/files/weights_file.hpp"
#include "support/images/image_file.hpp"
#include "support/process/error.hpp"
#include "tammes/points_file.hpp"
#include "training/data/cifar.hpp"
#include "training/data/data_files.hpp"
#include "training/data/fashion_mnist.hpp"
#include "training/data/tiny_imagenet.hpp"
#include "training/run/checkpoint.hpp"
#include "training/settings/new_run.hpp"
#include "training/settings/run_arguments.hpp"
#include "training/settings/settings.hpp"

namespace {

namespace fs = std::filesystem;
using namespace mma::examples;

/// A folder in memory, gone with the process.
const fs::path& folder() {
  static const fs::path place = [] {
    const fs::path parent = fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
    fs::path made = parent / ("mma-fuzz-" + std::to_string(::getpid()));
    fs::create_directories(made);
    std::atexit([] { fs::remove_all(folder()); });
    return made;
  }();
  return place;
}

fs::path file_of(const std::string& bytes, const std::string& name = "input") {
  const fs::path path = folder() / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

/// The bytes up to the first line end, and those after it.
std::pair<std::string, std::string> halves_of(const std::string& bytes) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  return {bytes.substr(0, end), end < bytes.size() ? bytes.substr(end + 1) : std::string()};
}

std::vector<std::string> words_of(const std::string& bytes) {
  std::vector<std::string> words;
  std::istringstream stream(bytes);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

/// Both files of CIFAR-100; CIFAR-10's are read by the same code.
void cifar(const std::string& bytes, const std::string& inner, const std::string& ending) {
  for (const char* name : {"train", "test"}) file_of(bytes, inner + "/" + name + ending);
  Dataset dataset;
  dataset.classes = 100;
  read_cifar100({"cifar100", folder(), {inner}}, dataset);
}

/// The first two bytes say how long the file of images is, the labels follow it.
void idx(const std::string& bytes) {
  if (bytes.size() < 2) return;
  const size_t length = static_cast<unsigned char>(bytes[0]) * size_t{256} + static_cast<unsigned char>(bytes[1]);
  const std::string images = bytes.substr(2, length),
                    labels = bytes.size() > length + 2 ? bytes.substr(length + 2) : std::string();
  for (const char* split : {"train", "t10k"}) {
    file_of(images, std::string("idx/") + split + "-images-idx3-ubyte");
    file_of(labels, std::string("idx/") + split + "-labels-idx1-ubyte");
  }
  Dataset dataset;
  dataset.classes = 10;
  read_fashion_mnist({"fashion-mnist", folder() / "idx", {}}, dataset);
}

/// The two lists of names; the pictures are there, in grey.
void tiny_imagenet(const std::string& bytes) {
  [[maybe_unused]] static const bool pictures = [] {
    const std::string pgm = "P5 64 64 255\n" + std::string(size_t{64} * 64, '\x40');
    file_of(pgm, "tiny/train/n01443537/images/n01443537_0.JPEG");
    file_of(pgm, "tiny/val/images/val_0.JPEG");
    return true;
  }();
  const auto [names, validation] = halves_of(bytes);
  file_of(names, "tiny/wnids.txt");
  file_of(validation, "tiny/val/val_annotations.txt");
  Dataset dataset;
  read_tiny_imagenet(folder() / "tiny", dataset);
}

void checkpoint(const std::string& bytes) {
  TensorFile file;
  file.metadata[checkpoint_record_key] = bytes;
  record_in(file, "checkpoint");
}

void config(const std::string& bytes) {
  const Settings settings = settings_from_json(parse_ordered_json(bytes));
  check(settings);
}

void command_line(const std::string& bytes) {
  Given given = run_arguments_of(words_of(bytes)).given;
  given["data"] = "here";
  settings_of_new_run(given);
}

void bin_file(const std::string& bytes) {
  const BinFile file(file_of(bytes));
  if (!file.images().empty()) decode_image(file.images()[0], 3, file.name_of(0));
}

using Target = std::function<void(const std::string& bytes)>;

const std::map<std::string, Target>& targets() {
  static const std::map<std::string, Target> all = {
      {"pickle", [](const std::string& bytes) { Pickle(bytes, "pickle"); }},
      {"weights", [](const std::string& bytes) { read_layers(file_of(bytes), {}); }},
      {"safetensors", [](const std::string& bytes) { read_tensor_file(file_of(bytes, "input.safetensors")); }},
      {"features", [](const std::string& bytes) { read_features(file_of(bytes, "input.safetensors")); }},
      {"checkpoint", checkpoint},
      {"config", config},
      {"metrics", [](const std::string& bytes) { read_metrics_csv(file_of(bytes, "metrics.csv")); }},
      {"jpeg", [](const std::string& bytes) { decode_image(bytes, 3, "picture"); }},
      {"png", [](const std::string& bytes) { decode_image(bytes, 3, "picture"); }},
      {"pgm", [](const std::string& bytes) { decode_image(bytes, 1, "picture"); }},
      {"bin", bin_file},
      {"pairs", [](const std::string& bytes) { read_pairs_file(file_of(bytes)); }},
      {"points", [](const std::string& bytes) { read_points(file_of(bytes)); }},
      {"cifar-binary", [](const std::string& bytes) { cifar(bytes, "cifar-100-binary", ".bin"); }},
      {"cifar-python", [](const std::string& bytes) { cifar(bytes, "cifar-100-python", ""); }},
      {"idx", idx},
      {"gzip", [](const std::string& bytes) { content_of(file_of(bytes), size_t{1} << 24); }},
      {"tiny-imagenet", tiny_imagenet},
      {"pattern",
       [](const std::string& bytes) {
         const auto [pattern, name] = halves_of(bytes);
         mma::name_matches(pattern, name);
       }},
      {"command-line", command_line}};
  return all;
}

const Target& chosen() {
  static const Target& target = []() -> const Target& {
    const char* name = std::getenv("MMA_FUZZ_TARGET");
    const auto found = targets().find(name == nullptr ? "" : name);
    if (found != targets().end()) return found->second;
    std::cerr << "mma_fuzz: MMA_FUZZ_TARGET names no reader; expected one of";
    for (const auto& target : targets()) std::cerr << ' ' << target.first;
    std::cerr << '\n';
    std::exit(2);
  }();
  return target;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  at::set_num_threads(1);
  chosen();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    chosen()(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const UserError&) {
  }
  return 0;
}
