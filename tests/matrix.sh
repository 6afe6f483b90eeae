#!/usr/bin/env bash
# The library's tests with every compiler, LibTorch and set of flags that we promise, a line of Markdown each:
#
#   matrix.sh [WORDS]     WORDS: only lines that hold all of them, as "clang++ 2.15.0"
#
# g++ and clang++, LibTorch 2.11.0 and 2.15.0, C++20 and C++23, -O0 to -Ofast, -march=native, in one translation unit, with a
# precompiled header, our own warnings being errors. Needs what cmake/bootstrap.sh --for test installs. Ends with 1 where a
# line fails.
set -euo pipefail
cd "$(dirname "$0")/.."

sources="minimal_angle_test.cpp regularizer_test.cpp plain_formula_test.cpp"
warnings="-Wall -Wextra -Wconversion -Werror" # of the tests; the headers alone have stricter ones, mma_every_header
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# try COMPILER LIBTORCH_PREFIX VERSION FLAGS...
try() {
  local compiler=$1 prefix=$2 version=$3 torch source parts=() state seconds=$SECONDS
  shift 3
  local line="$compiler $version $*"
  for word in $wanted; do case $line in *"$word"*) ;; *) return 0 ;; esac; done
  torch=$prefix
  [ -d "$torch/include/ATen" ] || torch=$prefix/torch
  for source in $sources; do parts+=("tests/library/$source"); done
  if [ "${1:-}" = unity ]; then
    shift
    printf '#include "%s"\n' "${parts[@]/#/$PWD/}" > "$work/unity.cpp"
    parts=("$work/unity.cpp")
  elif [ "${1:-}" = pch ]; then
    shift
    echo '#include <mma/mma.hpp>' > "$work/pch.hpp"
    # shellcheck disable=SC2086
    "$compiler" "$@" $warnings -Iinclude -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
      -x c++-header "$work/pch.hpp" -o "$work/pch.hpp.$([ "$compiler" = g++ ] && echo gch || echo pch)" > "$work/log" 2>&1 || true
    set -- "$@" -include "$work/pch.hpp"
  fi
  # shellcheck disable=SC2086
  if "$compiler" "$@" $warnings -Iinclude -Itests/library -isystem "$torch/include" \
    -isystem "$torch/include/torch/csrc/api/include" "${parts[@]}" -o "$work/test" -lgtest -lgtest_main -L"$torch/lib" \
    -Wl,-rpath,"$torch/lib" -Wl,--no-as-needed -ltorch_cpu -lc10 -ldl -lpthread > "$work/log" 2>&1 &&
    OMP_NUM_THREADS=1 "$work/test" --gtest_brief=1 >> "$work/log" 2>&1; then
    state=$(sed -n 's/^\[  PASSED  \] //p' "$work/log")
  else
    state="**failed**: $(grep -m1 -E 'error|FAILED' "$work/log" | cut -c1-160)"
    failed=1
  fi
  rm -f "$work"/pch.hpp.*
  echo "| $line | $state | $((SECONDS - seconds)) |"
}

wanted=$*
default=$(cmake/bootstrap.sh --for test)
newest=$(cmake/bootstrap.sh --for test --newest)
echo "| compiler, LibTorch, flags | tests | seconds |"
echo "|---|---|---:|"
for compiler in g++ clang++; do
  for standard in c++20 c++23; do
    [ "$compiler $standard" = "clang++ c++23" ] && standard=c++2b
    try $compiler "$default" 2.11.0 -std=$standard -O1
    try $compiler "$newest" 2.15.0 -std=$standard -O1
  done
  for flags in "-O0" "-O2" "-O3 -march=native" "-Ofast -march=native"; do
    # shellcheck disable=SC2086
    try $compiler "$default" 2.11.0 -std=c++20 $flags
  done
  try $compiler "$default" 2.11.0 unity -std=c++20 -O1
  try $compiler "$default" 2.11.0 pch -std=c++20 -O1
done
exit $failed
