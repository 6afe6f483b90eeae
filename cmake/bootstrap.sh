#!/bin/sh
# From a fresh Debian or Ubuntu with g++, CMake and Python to everything that a build needs. Prints on stdout the
# CMAKE_PREFIX_PATH to build with, and on stderr what it does; quick when nothing is missing. Where there is no apt-get it
# says what is missing in that system's words, and goes on where nothing is.
#
#   bootstrap.sh [--for demo|test|sanitize|bench|fuzz|lint|docs|library] [--newest | --python-readers | --python]
#
# --for demo    what the programs need (default); --for test: GoogleTest as well; --for bench: Google Benchmark;
#               --for sanitize: what the tests need, and valgrind; --for fuzz: clang with its sanitizers and LLVM's coverage
# --for lint    the headers' LibTorch, clang-format, clang-tidy and shellcheck; --for docs: doxygen alone, prints nothing
# --for library LibTorch alone
# --newest      prints the folder of LibTorch 2.15.0 instead, for the consumer test
# --python-readers  prints a Python that has tensorboard and safetensors instead, for the tests of our files
# --python      prints a Python that has torch 2.11.0 and what building and testing the package mma in python/ needs
#
# LibTorch: the user's own where CMAKE_PREFIX_PATH holds one, else the wheel, in a cache that all checkouts share:
# $MMA_CACHE, else $XDG_CACHE_HOME/mma, else ~/.cache/mma. Without an NVIDIA GPU only its CPU part is installed.
set -eu

default_version=2.11.0
newest_version=2.15.0
purpose=demo
version=$default_version

say() { echo "mma: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --for) purpose=$2; shift ;;
    --newest) version=$newest_version ;;
    --python-readers) purpose=readers ;;
    --python) purpose=python ;;
    *)
      fail "bootstrap.sh does not know '$1'; expected --for demo|test|sanitize|bench|fuzz|lint|docs|library, --newest, --python-readers or --python"
      ;;
  esac
  shift
done

# --- system packages -------------------------------------------------------------------------------------------------

libtorch_packages="ca-certificates python3-pip"
packages="$libtorch_packages libcli11-dev nlohmann-json3-dev zlib1g-dev libjpeg-dev libpng-dev coinor-libclp-dev libboost-dev libgloo-dev gnuplot-nox fonts-dejavu-core dataset-fashion-mnist curl"
case $purpose in
  test) packages="$packages libgtest-dev clang" ;;
  sanitize) packages="$packages libgtest-dev clang valgrind" ;;
  fuzz) packages="$packages clang libclang-rt-dev llvm" ;;
  bench) packages="$packages libbenchmark-dev" ;;
  # Versions by name: another clang-format would format otherwise, another clang-tidy find other things.
  lint) packages="$libtorch_packages clang-format-14 clang-tidy-14 shellcheck" ;;
  docs) packages=doxygen ;;
  python) packages="$libtorch_packages python3-dev dataset-fashion-mnist" ;;
  library) packages=$libtorch_packages ;;
  demo | readers) ;;
  *) fail "bootstrap.sh does not know the purpose '$purpose'; expected demo, test, sanitize, bench, fuzz, lint, docs or library" ;;
esac

install_system_packages() {
  missing=
  for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  [ -z "$missing" ] && return
  if [ "$(id -u)" != 0 ]; then
    fail "these packages are missing; install them and try again: sudo apt-get install --no-install-recommends$missing"
  fi
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } >&2 ||
    fail "apt-get could not install$missing"
}

# --- LibTorch --------------------------------------------------------------------------------------------------------

# The prefixes of CMAKE_PREFIX_PATH, if one of them (or its torch/) holds LibTorch.
own_libtorch() {
  old_ifs=$IFS
  IFS=':;'
  for prefix in ${CMAKE_PREFIX_PATH:-}; do
    if [ -e "$prefix/lib/libtorch_cpu.so" ] || [ -e "$prefix/torch/lib/libtorch_cpu.so" ]; then
      IFS=$old_ifs
      echo "$CMAKE_PREFIX_PATH"
      return
    fi
  done
  IFS=$old_ifs
}

has_nvidia_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# A Python that can run pip: the system's needs python3-pip, an own one mostly brings it.
python_with_pip() {
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  fail "no python3 with pip was found; expected one, as Debian's python3-pip"
}

# Into a folder beside its place, then renamed: an interrupted installation leaves nothing that looks like one.
install_libtorch() {
  target=$1
  shift
  say "installing LibTorch $version into $target (once; shared by all checkouts)"
  python=$(python_with_pip)
  rm -rf "$target.part"
  "$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --no-compile \
    --target "$target.part" "$@" >&2 || fail "pip could not install torch==$version"
  mv "$target.part" "$target"
}

cache=${MMA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mma}

make_cache() { mkdir -p "$cache" || fail "the cache folder $cache cannot be made; name another in MMA_CACHE"; }

# A script that runs the Python with packages of its own, which no other Python sees: the folder in the cache, what it is
# for, then pip's arguments.
own_python() {
  make_cache
  target=$cache/$1
  what=$2
  shift 2
  exec 9>"$cache/lock"
  flock 9
  if [ ! -x "$target/python" ]; then
    say "installing Python's $what into $target (once; shared by all checkouts)"
    python=$(python_with_pip)
    rm -rf "$target.part"
    "$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --no-compile \
      --target "$target.part" "$@" >&2 || fail "pip could not install $what"
    # shellcheck disable=SC2016  # expanded when it runs: what the caller adds comes after
    printf '#!/bin/sh\nPYTHONPATH=%s${PYTHONPATH:+:$PYTHONPATH} exec %s "$@"\n' "$target" "$(command -v "$python")" \
      > "$target.part/python"
    chmod +x "$target.part/python"
    rm -rf "$target"
    mv "$target.part" "$target"
  fi
  exec 9>&-
  echo "$target/python"
}

python_readers() {
  own_python python-readers-1 "tensorboard and safetensors" tensorboard==2.20.0 safetensors==0.7.0 'numpy<3'
}

# Without a GPU torch goes without what only a GPU's code is made with (triton, cusolver, nvrtc, nvtx): a GiB less.
python_with_torch() {
  requirements=$(dirname "$0")/../python/tests/requirements.txt
  if has_nvidia_gpu; then
    own_python python-torch-$default_version-cuda-1 "torch $default_version" torch==$default_version -r "$requirements"
  else
    own_python python-torch-$default_version-cpu-1 "torch $default_version" --no-deps torch==$default_version \
      -r "$requirements" -r "$(dirname "$requirements")/torch-cpu.txt"
  fi
}

libtorch() {
  make_cache
  if [ "$version" = "$default_version" ] && has_nvidia_gpu; then
    target=$cache/libtorch-$version-cuda
    requirements=torch==$version
  else
    target=$cache/libtorch-$version-cpu
    # The wheel's CPU half is linked to these two alone.
    case $version in
      2.11.0) cuda="nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85" ;;
      2.15.0) cuda="nvidia-cuda-runtime==13.2.86 nvidia-cuda-cupti==13.2.86" ;;
    esac
    requirements="--no-deps torch==$version $cuda"
  fi
  exec 9>"$cache/lock"
  flock 9 # two builds at once: the second waits for the first one's installation
  # shellcheck disable=SC2086
  [ -e "$target/torch/lib/libtorch_cpu.so" ] || install_libtorch "$target" $requirements
  exec 9>&-
  echo "$target"
}

if command -v apt-get >/dev/null 2>&1; then
  install_system_packages
else
  # shellcheck source=cmake/without-apt.sh
  . "$(dirname "$0")/without-apt.sh"
  expect_installed
fi
[ "$purpose" = docs ] && exit
if [ "$purpose" = readers ]; then
  python_readers
  exit
fi
if [ "$purpose" = python ]; then
  python_with_torch
  exit
fi
prefix=
[ "$version" = "$default_version" ] && prefix=$(own_libtorch)
if [ -n "$prefix" ]; then
  say "using the LibTorch of CMAKE_PREFIX_PATH"
  echo "$prefix"
else
  libtorch
fi
