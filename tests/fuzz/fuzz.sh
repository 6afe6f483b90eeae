#!/usr/bin/env bash
# Fuzzes one of mma's readers, or all of them, and says what came of it in a line of Markdown each:
#
#   fuzz.sh [TARGET|all] [SECONDS]      without a target: their names. JOBS readers at a time (default: one a core)
#
# Each reader has SECONDS; one that has not read a million inputs by then goes on until it has, for no longer than SECONDS again.
# Built by the preset "fuzz" (clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer, llvm-cov). Seeds are our own
# small files (seeds.py); what is found to be new is kept in build-fuzz/corpus/TARGET, so that a later run goes on from
# there. Lines covered are those of the reader's own source files that all inputs found so far have run: of all functions
# there, what writes included / of the functions that were entered.
# A finding (a crash, more than 10 s, more than 2 GiB) ends with 1; its input is named and lies in build-fuzz/findings/.
set -euo pipefail
cd "$(dirname "$0")/../.."
build='build-fuzz'
program=$build/bin/mma_fuzz

# The files that hold a reader, below examples/ unless they begin with include/.
declare -A sources=(
  [bin]='faces/bin_file.cpp support/files/numpy_pickle.cpp' [checkpoint]='training/run/checkpoint.cpp'
  [cifar-binary]='training/data/cifar.cpp' [cifar-python]='training/data/cifar.cpp support/files/numpy_pickle.cpp'
  [command-line]='training/settings/run_arguments.cpp training/settings/new_run.cpp'
  [config]='training/settings/settings.cpp' [features]='faces/features_file.cpp' [gzip]='training/data/data_files.cpp'
  [idx]='training/data/fashion_mnist.cpp' [jpeg]='support/images/image_file.cpp' [metrics]='reproduce/metrics_csv.cpp'
  [pairs]='faces/pairs_file.cpp' [pattern]='include/mma/detail/platform.hpp' [pgm]='support/images/image_file.cpp'
  [pickle]='support/files/unpickler.cpp' [png]='support/images/image_file.cpp' [points]='tammes/points_file.cpp'
  [safetensors]='support/files/safetensors.cpp support/files/tensor_file.cpp support/files/json.cpp'
  [tiny-imagenet]='training/data/tiny_imagenet.cpp'
  [weights]='support/files/weights_file.cpp support/files/torch_save_file.cpp support/files/pickled_tensors.cpp support/files/state_dict.cpp'
)

say() { echo "fuzz.sh: $*" >&2; }

build_program() {
  { cmake --preset fuzz && cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target mma_fuzz; } > "$build.log" 2>&1 && return
  tail -n 30 "$build.log" >&2
  exit 1
}

names() { { LLVM_PROFILE_FILE=/dev/null MMA_FUZZ_TARGET='' "$program" 2>&1 || true; } | sed -n 's/.*expected one of //p'; }

# run TARGET LIBFUZZER_WORDS...   LibTorch is not built with AddressSanitizer: containers that cross its border stay unchecked.
run() {
  MMA_FUZZ_TARGET=$1 LSAN_OPTIONS=suppressions=tests/sanitize/leaks.supp:print_suppressions=0 OMP_NUM_THREADS=1 \
    ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=1 "$program" "${@:2}"
}

# Of its source files, what part of the lines all inputs together have run, of all / of the functions entered: "29 / 87 %".
lines_covered() {
  local target=$1 profile=$build/$1.profraw file files=()
  for file in ${sources[$target]}; do
    case $file in include/*) files+=("$file") ;; *) files+=("examples/$file") ;; esac
  done
  LLVM_PROFILE_FILE=$profile run "$target" "$build/corpus/$target" "$build/seeds/$target" -runs=0 > /dev/null 2>&1 || true
  llvm-profdata merge -sparse "$profile" -o "$build/$target.profdata"
  llvm-cov report "$program" -instr-profile="$build/$target.profdata" -show-functions "${files[@]}" 2> /dev/null |
    awk '/^[^ ]*_Z/ { all += $5; run += $5 - $6; if ($6 < $5) entered += $5 }
      END { if (entered > 0) printf "%d / %d %%", 100 * run / all, 100 * run / entered }'
}

# mutate TARGET SECONDS LIBFUZZER_WORDS...
mutate() {
  LLVM_PROFILE_FILE=/dev/null run "$1" "$build/corpus/$1" "$build/seeds/$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="$build/findings/$1-" "${@:3}" 2>&1
}

executions() { awk '/stat::number_of_executed_units/ { runs += $2 } END { print runs + 0 }' "$1"; }

# fuzz TARGET SECONDS
fuzz() {
  local target=$1 seconds=$2 log=$build/$1.log found=0 begin=$SECONDS missing
  mkdir -p "$build/findings" "$build/corpus/$target"
  python3 tests/fuzz/seeds.py "$target" "$build/seeds/$target"
  mutate "$target" "$seconds" > "$log" || found=1
  missing=$((1000000 - $(executions "$log")))
  if [ "$found" = 0 ] && [ "$missing" -gt 0 ]; then mutate "$target" "$seconds" -runs="$missing" >> "$log" || found=1; fi
  awk -v target="$target" -v seconds="$((SECONDS - begin))" -v covered="$(lines_covered "$target")" '
    / cov: / { for (i = 1; i < NF; ++i) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corpus = $(i + 1) } }
    /stat::number_of_executed_units/ { runs += $2 }
    /stat::slowest_unit_time_sec/ && $2 >= slowest { slowest = $2 }
    /stat::peak_rss_mb/ && $2 >= memory { memory = $2 }
    END { printf "| %s | %s | %d | %s | %s | %s | %s | %s | %s |\n", target, seconds, runs, cov, ft, covered, corpus, slowest, memory }' "$log"
  if [ "$found" = 1 ]; then
    say "$target: $(grep -m1 -E 'ERROR|SUMMARY|runtime error|terminate' "$log" || echo failed); see $log"
    grep -o "Test unit written to .*" "$log" >&2 || true
  fi
  return $found
}

main() {
  local target=${1:-} seconds=${2:-60} failed=0 running=0 one
  build_program
  if [ -z "$target" ]; then
    names
    return
  fi
  echo "| reader | seconds | executions | edges | features | lines covered | corpus, files/bytes | slowest input, s | peak MiB |"
  echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
  for one in $([ "$target" = all ] && names || echo "$target"); do
    if [ "$running" -ge "${JOBS:-$(nproc)}" ]; then
      wait -n || failed=1
      running=$((running - 1))
    fi
    fuzz "$one" "$seconds" &
    running=$((running + 1))
  done
  for ((; running > 0; --running)); do wait -n || failed=1; done
  return $failed
}

main "$@"
