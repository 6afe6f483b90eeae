#!/usr/bin/env bash
# Everything that only a GPU can tell: its tests, the cost of MMA for whole networks, and Table 3's columns.
# Usage: gpu.sh [RESULT.md]   (default: benchmarks/results/gpu.md)
# Needs CMake, a C++20 compiler and LibTorch with CUDA: in CMAKE_PREFIX_PATH, or Python's torch. With GoogleTest, CLI11
# and the others of cmake/bootstrap.sh it runs the tests too, and with CIFAR-100 in data/ the training steps.
set -euo pipefail
cd "$(dirname "$0")/.."

result=${1:-benchmarks/results/gpu.md}
build="build-gpu"

if ! gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || [ -z "$gpu" ]; then
  echo "gpu.sh: no NVIDIA GPU answers on this machine (nvidia-smi), so nothing was measured" >&2
  exit 1
fi
if [ -z "${CMAKE_PREFIX_PATH:-}" ]; then
  CMAKE_PREFIX_PATH=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null) || {
    echo "gpu.sh: no LibTorch: set CMAKE_PREFIX_PATH to its folder, or install torch for python3" >&2
    exit 1
  }
  export CMAKE_PREFIX_PATH
fi

# All there is, or the benchmark alone where a library of the tests or examples is missing.
configure() { cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DMMA_BUILD_BENCHMARKS=ON \
  -DCMAKE_RUNTIME_OUTPUT_DIRECTORY="$PWD/$build/bin" "$@" > "$build.log" 2>&1; }
if configure -DMMA_BUILD_TESTS=ON -DMMA_BUILD_EXAMPLES=ON; then
  targets="bench-gpu bench-step mma_library_test mma_objectives_test mma_cuda_test"
elif configure -DMMA_BUILD_TESTS=OFF -DMMA_BUILD_EXAMPLES=OFF; then
  targets="bench-gpu"
else
  cat "$build.log" >&2
  exit 1
fi
# shellcheck disable=SC2086  # the targets are words
cmake --build "$build" --parallel --target $targets > "$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; exit 1; }

tests() {
  local program failed=0
  for program in mma_library_test mma_objectives_test mma_cuda_test; do
    [ -x "$build/bin/$program" ] || continue
    "$build/bin/$program" --gtest_filter='Cuda*' > "$build.log" 2>&1 || failed=1
    echo "- \`$program\`: $(grep -E '^\[  (PASSED|FAILED|SKIPPED)' "$build.log" | cut -c1-100 | paste -sd ';' -)"
  done
  [ -x "$build/bin/mma_cuda_test" ] || echo "- not run: GoogleTest or another library of the tests is missing"
  return $failed
}

# Table 3's columns; then what a user's own run has: hidden layers, bf16, a CUDA graph. Then Python's eager PyTorch.
steps() {
  local program=$build/bin/bench-step step
  if [ ! -x "$program" ]; then
    echo "Not run: bench-step was not built."
    return
  elif [ ! -d data/cifar-100-binary ]; then
    echo "Not run: no CIFAR-100 in data/ (make data-cifar100)."
    return
  fi
  step="$program --device cuda --dataset cifar100 --data data/cifar-100-binary --batch 128"
  # shellcheck disable=SC2086  # the options are words
  {
    $step --model vgg19-bn --regularizers mma,mhe-s2-batch,mhe-s0-batch,orthogonal
    echo
    $step --model vgg19-bn --regularizers mma --precision bf16 --cuda-graph || echo "Not run."
    echo
    $step --model resnet56 --regularizers mma --precision bf16 --cuda-graph || echo "Not run."
    echo
    python3 benchmarks/eager.py --bench "$program" --data data/cifar-100-binary --model resnet56 --device cuda \
      --threads 1 --cuda-graph || echo "Beside Python: not run."
  } 2>&1
}

unfinished=$result.unfinished
trap 'rm -f "$unfinished"' EXIT
{
  echo "# On a GPU"
  echo
  echo "$gpu, $(date -u +%Y-%m-%d), mma $(git describe --always --dirty 2>/dev/null || echo unknown); by \`benchmarks/gpu.sh\`."
  echo
  echo "## Tests"
  echo
  tests || echo "- **there are failures**"
  echo
  echo "## Forward and gradient of MMA for all weights of a network"
  echo
  "$build/bin/bench-gpu"
  echo
  echo "## A training step of VGG19-BN at batch 128 (Table 3)"
  echo
  steps
} | tee "$unfinished"
mv "$unfinished" "$result"
echo "gpu.sh: written to $result" >&2
