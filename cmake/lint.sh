#!/bin/sh
# What a machine can say about the sources: format, shell scripts, and clang-tidy over the library's headers. Fails on any
# finding; runs all three before it does.
#
#   lint.sh PREFIX     a CMAKE_PREFIX_PATH that holds LibTorch, as bootstrap.sh prints it
set -u
cd "$(dirname "$0")/.." || exit
git ls-files --error-unmatch cmake/lint.sh > /dev/null || exit # only what git tracks is looked at

failed=
checked() {
  name=$1
  shift
  "$@" || failed="$failed $name"
}

format() { git ls-files -z '*.hpp' '*.cpp' | xargs -0 clang-format-14 --dry-run -Werror; }

# By their first line, whatever they are called.
shell() { git grep -lzE '^#!.*sh$' | xargs -0 shellcheck -x; }

# One unit of every header, with templates made of it: tests/library compiles the same one without a warning.
tidy() {
  mkdir -p build-lint
  {
    git ls-files 'include/mma/*.hpp' | sed 's|^include/\(.*\)|#include <\1>|'
    grep -v '^@includes@$' tests/library/every_header.cpp.in
  } > build-lint/every_header.cpp
  set -- -std=c++20 -Iinclude
  old_ifs=$IFS
  IFS=':;'
  for prefix in $prefixes; do
    for include in "$prefix/include" "$prefix/torch/include"; do
      [ -e "$include/ATen/ATen.h" ] && set -- "$@" -isystem "$include" -isystem "$include/torch/csrc/api/include"
    done
  done
  IFS=$old_ifs
  # Even with --quiet it counts on stderr what it found in LibTorch's headers and leaves out.
  clang-tidy-14 --quiet build-lint/every_header.cpp -- "$@" 2> build-lint/stderr || {
    cat build-lint/stderr >&2
    return 1
  }
}

prefixes=$1
checked format format
checked shellcheck shell
checked clang-tidy tidy
[ -z "$failed" ] || {
  echo "mma: findings of:$failed" >&2
  exit 1
}
echo "mma: no findings"
