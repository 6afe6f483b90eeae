#!/usr/bin/env bash
# Everything that only a GPU can tell: its tests, the cost of MMA for whole networks, Table 3's columns; and trainings.
#
#   gpu.sh [RESULT.md]     measures, into benchmarks/results/gpu.md
#   gpu.sh --train MINUTES [--epochs E] [--data DIR] [--out DIR] [-- WORDS of mma-train]
#                          trains pairs without and with MMA, the next seed each time, as long as there is time
#                          (train_pairs.sh); WORDS instead of VGG19-BN's, such as --recipe strong-vgg19-bn
#   gpu.sh --pack FILE     all that this needs as FILE.tar.gz, built where there is no GPU: unpacked elsewhere, its
#                          benchmarks/gpu.sh measures and trains with Python's torch alone, without a compiler
#
# Otherwise it needs CMake, a C++20 compiler and LibTorch with CUDA: in CMAKE_PREFIX_PATH, or Python's torch. With
# GoogleTest, CLI11 and the others of cmake/bootstrap.sh it runs the tests too, and with CIFAR-100 in data/ the steps.
set -euo pipefail
cd "$(dirname "$0")/.."

build="build-gpu"
if [ -d packed ]; then build="packed"; fi
programs=$build/bin

fail() {
  echo "gpu.sh: $*" >&2
  exit 1
}

need_gpu() {
  gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || gpu=
  [ -n "$gpu" ] || fail "no NVIDIA GPU answers on this machine (nvidia-smi), so nothing was done"
}

# Where LibTorch with CUDA is: CMAKE_PREFIX_PATH, or Python's torch.
find_libtorch() {
  [ -n "${CMAKE_PREFIX_PATH:-}" ] ||
    CMAKE_PREFIX_PATH=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null) ||
    fail "no LibTorch: set CMAKE_PREFIX_PATH to its folder, or install torch for python3"
  export CMAKE_PREFIX_PATH
}

# All there is, or the benchmark alone where a library of the tests or examples is missing.
configure() { cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DMMA_BUILD_BENCHMARKS=ON \
  -DCMAKE_RUNTIME_OUTPUT_DIRECTORY="$PWD/$programs" "$@" > "$build.log" 2>&1; }

build_programs() {
  find_libtorch
  local targets=bench-gpu
  if configure -DMMA_BUILD_TESTS=ON -DMMA_BUILD_EXAMPLES=ON; then
    targets="bench-gpu bench-step mma-train mma-reproduce mma_library_test mma_objectives_test mma_cuda_test"
  elif ! configure -DMMA_BUILD_TESTS=OFF -DMMA_BUILD_EXAMPLES=OFF; then
    cat "$build.log" >&2
    exit 1
  fi
  # shellcheck disable=SC2086  # the targets are words
  cmake --build "$build" --parallel --target $targets > "$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; exit 1; }
}

# What was packed is there already, and finds LibTorch beside Python's torch.
have_programs() {
  if [ "$build" != packed ]; then build_programs && return; fi
  find_libtorch
  local torch=${CMAKE_PREFIX_PATH%%[:;]*}
  [ -e "$torch/lib" ] || torch=$torch/torch
  export LD_LIBRARY_PATH="$torch/lib:$PWD/packed/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

# Libraries that programs need and that are neither LibTorch's nor of every Linux.
small_libraries() {
  ldd "$@" | awk '$3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libgomp)[-.]|/torch/|/nvidia/'
}

pack() {
  local folder name=mma-gpu
  build_programs
  folder=$(mktemp -d)
  mkdir -p "$folder/$name/packed/bin" "$folder/$name/packed/lib" "$folder/$name/benchmarks"
  cp "$programs"/* "$folder/$name/packed/bin/"
  strip "$folder/$name/packed/bin/"*
  small_libraries "$programs"/* | xargs -r -I{} cp -L {} "$folder/$name/packed/lib/"
  cp benchmarks/gpu.sh benchmarks/train_pairs.sh benchmarks/eager.py "$folder/$name/benchmarks/"
  mkdir -p "$folder/$name/tests/training/models" "$folder/$name/benchmarks/results"
  cp tests/training/models/reference_models.py "$folder/$name/tests/training/models/"
  cp -r benchmarks/results/vgg19-bn "$folder/$name/benchmarks/results/" # the seeds that are there already
  { git describe --always --dirty 2>/dev/null || echo unknown; } > "$folder/$name/packed/version"
  tar -C "$folder" -czf "$1" "$name"
  rm -r "$folder"
  echo "gpu.sh: $1, $(du -k "$1" | cut -f 1) KiB: unpack it where there is a GPU and Python's torch, then $name/benchmarks/gpu.sh"
}

train() {
  local minutes=$1 epochs=56 data=data/cifar-100-binary out=benchmarks/results/vgg19-bn
  local words=(--model vgg19-bn)
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [ $# -ge 2 ] || fail "$1 lacks its value"
    case $1 in
      --epochs) epochs=$2 ;;
      --data) data=$2 ;;
      --out) out=$2 ;;
      *) fail "'$1' is not known; expected --epochs, --data, --out, then -- and words of mma-train" ;;
    esac
    shift 2
  done
  if [ $# -gt 1 ]; then words=("${@:2}"); fi
  [ -e "$data/train.bin" ] || fail "there is no $data/train.bin; expected CIFAR-100's binary version (make data-cifar100)"
  need_gpu
  have_programs
  benchmarks/train_pairs.sh --minutes "$minutes" --epochs "$epochs" --out "$out" --program "$programs/mma-train" -- \
    "${words[@]}" --dataset cifar100 --data "$data" --device cuda --precision bf16 --channels-last --cuda-graph \
    --cudnn-benchmark --threads 2
  "$programs/mma-reproduce" gather "$out" --out "$out" | tail -n 2
}

tests() {
  local program failed=0
  for program in mma_library_test mma_objectives_test mma_cuda_test; do
    [ -x "$programs/$program" ] || continue
    "$programs/$program" --gtest_filter='Cuda*' > "$build.log" 2>&1 || failed=1
    echo "- \`$program\`: $(grep -E '^\[  (PASSED|FAILED|SKIPPED)' "$build.log" | cut -c1-100 | paste -sd ';' -)"
  done
  [ -x "$programs/mma_cuda_test" ] || echo "- not run: GoogleTest or another library of the tests is missing"
  return $failed
}

# Table 3's columns; then what a user's own run has: hidden layers, bf16, a CUDA graph. Then Python's eager PyTorch.
steps() {
  local program=$programs/bench-step step
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
    $step --model vgg19-bn --regularizers mma --precision bf16 --parts || echo "By parts: not run."
    echo
    python3 benchmarks/eager.py --bench "$program" --data data/cifar-100-binary --model resnet56 --device cuda \
      --threads 1 --cuda-graph || echo "Beside Python: not run."
  } 2>&1
}

measure() {
  local result=$1
  unfinished=$result.unfinished
  need_gpu
  have_programs
  trap 'rm -f "$unfinished"' EXIT
  {
    echo "# On a GPU"
    echo
    echo "$gpu, $(date -u +%Y-%m-%d), mma $(cat packed/version 2>/dev/null || git describe --always --dirty 2>/dev/null || echo unknown); by \`benchmarks/gpu.sh\`."
    echo
    echo "## Tests"
    echo
    tests || echo "- **there are failures**"
    echo
    echo "## Forward and gradient of MMA for all weights of a network"
    echo
    "$programs/bench-gpu"
    echo
    echo "## A training step of VGG19-BN at batch 128 (Table 3)"
    echo
    steps
  } | tee "$unfinished"
  mv "$unfinished" "$result"
  echo "gpu.sh: written to $result" >&2
}

case ${1:-} in
  --pack) [ $# = 2 ] || fail "--pack takes the archive's name"; pack "$(realpath "$2")" ;;
  --train) [ $# -ge 2 ] || fail "--train takes minutes"; train "${@:2}" ;;
  -*) fail "'$1' is not known; expected --pack, --train or the name of a result" ;;
  *) measure "${1:-benchmarks/results/gpu.md}" ;;
esac
