#!/usr/bin/env bash
# Everything that only a GPU can tell: its tests, the cost of MMA for whole networks, Table 3's columns; and trainings.
#
#   gpu.sh --run [PACK.tar.gz] [RESULT.md]
#                          measures, in four minutes at most, into benchmarks/results/gpu.md and gpu.csv beside it;
#                          with PACK, what is in it, unpacked beside it
#   gpu.sh --train MINUTES [--epochs E] [--data DIR] [--out DIR] [-- WORDS of mma-train]
#                          trains pairs without and with MMA, the next seed each time, as long as there is time
#                          (train_pairs.sh); WORDS instead of VGG19-BN's, such as --recipe strong-vgg19-bn
#   gpu.sh --tests         runs all tests of kernels and library, on a GPU or, emulated, without one
#   gpu.sh --pack FILE     all that this needs as FILE, a .tar.gz, built where there is no GPU: unpacked elsewhere, its
#                          benchmarks/gpu.sh does all of the above with Python's torch alone, without a compiler
#
# Otherwise it needs CMake, a C++20 compiler and LibTorch with CUDA: in CMAKE_PREFIX_PATH, or Python's torch. With
# GoogleTest, CLI11 and the others of cmake/bootstrap.sh it runs the tests and the steps too. Steps take CIFAR-100 from
# data/, or else images of noise, which take as long.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

tests="mma_library_test mma_nearest_test mma_objectives_test mma_arcface_test mma_tammes_test mma_cuda_test"
packed_programs="bench-gpu bench-step mma-train mma-reproduce $tests"
build="build-gpu"
if [ -d packed ]; then build="packed"; fi
programs=$build/bin

fail() {
  echo "gpu.sh: $*" >&2
  exit 1
}

# A file's name as the caller gave it, from where he is.
callers() { (cd "$here" && realpath -m "$1"); }

# A command, ended when the minutes of --run are over.
deadline=''
limited() {
  local left=$((deadline - $(date +%s)))
  if [ "$left" -le 0 ]; then echo "Not run: no time was left."; return 1; fi
  timeout "$left" "$@"
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
configure() { cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DMMA_BUILD_BENCHMARKS=ON -DCMAKE_UNITY_BUILD=ON \
  -DCMAKE_RUNTIME_OUTPUT_DIRECTORY="$PWD/$programs" "$@" > "$build.log" 2>&1; }

build_programs() {
  find_libtorch
  local targets=bench-gpu
  if configure -DMMA_BUILD_TESTS=ON -DMMA_BUILD_EXAMPLES=ON; then
    targets=$packed_programs
  elif ! configure -DMMA_BUILD_TESTS=OFF -DMMA_BUILD_EXAMPLES=OFF; then
    cat "$build.log" >&2
    exit 1
  fi
  # shellcheck disable=SC2086  # the targets are words
  cmake --build "$build" --parallel "$(nproc)" --target $targets > "$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; exit 1; }
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
  local folder program name=mma-gpu
  build_programs
  folder=$(mktemp -d)
  mkdir -p "$folder/$name/packed/bin" "$folder/$name/packed/lib" "$folder/$name/benchmarks"
  for program in $packed_programs; do cp "$programs/$program" "$folder/$name/packed/bin/"; done
  strip "$folder/$name/packed/bin/"*
  small_libraries "$folder/$name/packed/bin/"* | xargs -r -I{} cp -L {} "$folder/$name/packed/lib/"
  cp benchmarks/gpu.sh benchmarks/train_pairs.sh benchmarks/eager.py benchmarks/formula.py "$folder/$name/benchmarks/"
  mkdir -p "$folder/$name/tests/training/models" "$folder/$name/benchmarks/results"
  cp tests/training/models/reference_models.py "$folder/$name/tests/training/models/"
  cp -r benchmarks/results/vgg19-bn "$folder/$name/benchmarks/results/" # the seeds that are there already
  { git describe --always --dirty 2>/dev/null || echo unknown; } > "$folder/$name/packed/version"
  tar -C "$folder" -czf "$1" "$name"
  rm -r "$folder"
  echo "gpu.sh: $1, $(du -k "$1" | cut -f 1) KiB: unpack it where there is a GPU and Python's torch, then $name/benchmarks/gpu.sh --run"
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

# A line for each program's tests of a filter.
test_results() {
  local program failed=0
  for program in $tests; do
    [ -x "$programs/$program" ] || continue
    limited "$programs/$program" --gtest_filter="$1" --gtest_brief=1 > "$log" 2>&1 || failed=1
    echo "- \`$program\`: $(grep -E '^\[  (PASSED|FAILED|SKIPPED)' "$log" | cut -c1-100 | paste -sd ';' -)"
  done
  [ -x "$programs/mma_cuda_test" ] || echo "- not run: GoogleTest or another library of the tests is missing"
  return $failed
}

all_tests() {
  have_programs
  deadline=$(($(date +%s) + 3600))
  test_results '*' || fail "there are failures"
}

# CIFAR-100's files full of noise: a step takes as long.
images_of_noise() {
  mkdir -p "$1"
  python3 - "$1" << 'PYTHON'
import os, sys
def records(count):
    return b"".join(bytes([r % 20, r % 100]) + os.urandom(3072) for r in range(count))
for name, count in (("train.bin", 50000), ("test.bin", 10000)):
    with open(os.path.join(sys.argv[1], name), "wb") as file:
        file.write(records(count))
for name, count in (("coarse_label_names.txt", 20), ("fine_label_names.txt", 100)):
    with open(os.path.join(sys.argv[1], name), "w") as file:
        file.writelines(f"class {c}\n" for c in range(count))
PYTHON
}

# Table 3's columns; then what a user's own run has: hidden layers, bf16, a CUDA graph. Then Python's eager PyTorch.
steps() {
  local program=$programs/bench-step step data=data/cifar-100-binary
  if [ ! -x "$program" ]; then
    echo "Not run: bench-step was not built."
    return
  elif [ ! -d $data ]; then
    data=$work/noise
    images_of_noise "$data"
  fi
  step="$program --device cuda --dataset cifar100 --data $data --batch 128"
  # shellcheck disable=SC2086  # the options are words
  {
    limited $step --model vgg19-bn --regularizers mma --cuda-graph || echo "Not run."
    echo
    limited $step --model vgg19-bn --regularizers mma --precision bf16 --cuda-graph || echo "Not run."
    echo
    limited $step --model resnet56 --regularizers mma --precision bf16 --cuda-graph || echo "Not run."
    echo
    limited $step --model vgg19-bn --regularizers mma --precision bf16 --parts || echo "By parts: not run."
    echo
    limited $step --model vgg19-bn --regularizers mma,mhe-s2-batch,mhe-s0-batch,orthogonal || echo "Not run."
    echo
    limited python3 benchmarks/eager.py --bench "$program" --data "$data" --model resnet56 --device cuda --threads 1 \
      --cuda-graph || echo "Beside Python: not run."
  } 2>&1
}

# Each kernel by the profiler, where there is one and it may count.
profile() {
  command -v ncu > /dev/null || { echo "No ncu on this machine."; return; }
  limited ncu --csv --metrics gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__throughput.avg.pct_of_peak_sustained_elapsed \
    -k regex:mma_ "$programs/bench-gpu" --passes vgg19-bn > "$log" 2>&1 || { echo "ncu could not count here."; return; }
  echo '```'
  grep '^"' "$log" | cut -d, -f5,13-15
  echo '```'
}

measure() {
  local result=$1
  unfinished=$result.unfinished
  need_gpu
  have_programs
  deadline=$(($(date +%s) + 240))
  work=$(mktemp -d)
  log=$work/log
  trap 'rm -rf "$unfinished" "$work"' EXIT
  {
    echo "# On a GPU"
    echo
    echo "$gpu, $(date -u +%Y-%m-%d), mma $(cat packed/version 2>/dev/null || git describe --always --dirty 2>/dev/null || echo unknown); by \`benchmarks/gpu.sh --run\`."
    echo
    echo "## Tests"
    echo
    test_results 'Cuda*' || echo "- **there are failures**"
    echo
    echo "## Forward and gradient of MMA for all weights of a network"
    echo
    limited "$programs/bench-gpu" --csv "$work/gpu.csv" || echo "Not finished."
    echo
    echo "## The formula in Python"
    echo
    { limited python3 benchmarks/formula.py && echo && limited python3 benchmarks/formula.py --tf32; } 2>&1 || echo "Not run."
    echo
    echo "## Training steps at batch 128"
    echo
    steps
    echo
    echo "## By ncu"
    echo
    profile
  } | tee "$unfinished"
  mv "$unfinished" "$result"
  [ ! -e "$work/gpu.csv" ] || cp "$work/gpu.csv" "${result%.md}.csv"
  echo "gpu.sh: written to $result" >&2
}

# run [PACK.tar.gz] [RESULT.md]
run() {
  local pack='' result=$PWD/benchmarks/results/gpu.md folder
  if [ $# -gt 0 ] && [ "${1%.tar.gz}" != "$1" ]; then
    pack=$(callers "$1")
    shift
  fi
  if [ $# -gt 0 ]; then result=$(callers "$1"); fi
  mkdir -p "$(dirname "$result")"
  if [ -z "$pack" ]; then
    measure "$result"
    return
  fi
  [ -f "$pack" ] || fail "there is no $pack; expected what gpu.sh --pack has written"
  folder=$(dirname "$pack")
  tar -xzf "$pack" -C "$folder" || fail "$pack is not what gpu.sh --pack writes"
  "$folder/mma-gpu/benchmarks/gpu.sh" --run "$result"
}

case ${1:-} in
  --pack) [ $# = 2 ] || fail "--pack takes the archive's name"; pack "$(callers "$2")" ;;
  --train) [ $# -ge 2 ] || fail "--train takes minutes"; train "${@:2}" ;;
  --tests) log=$(mktemp); trap 'rm -f "$log"' EXIT; all_tests ;;
  --run) run "${@:2}" ;;
  *) fail "'${1:-}' is not known; expected --run, --train, --tests or --pack" ;;
esac
