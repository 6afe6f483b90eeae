#!/usr/bin/env bash
# Fuzzes one of mma's readers, or all of them one after another, and says what came of it in a line of Markdown each:
#
#   fuzz.sh [TARGET|all] [SECONDS]      without a target: their names
#
# Built by the preset "fuzz" (clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer). Seeds are our own small
# files (seeds.py); what is found to be new is kept in build-fuzz/corpus/TARGET, so that a later run goes on from there.
# A finding (a crash, more than 10 s, more than 2 GiB) ends with 1; its input is named and lies in build-fuzz/findings/.
set -euo pipefail
cd "$(dirname "$0")/../.."
build='build-fuzz'
program=$build/bin/mma_fuzz

say() { echo "fuzz.sh: $*" >&2; }

build_program() {
  { cmake --preset fuzz && cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target mma_fuzz; } > "$build.log" 2>&1 && return
  tail -n 30 "$build.log" >&2
  exit 1
}

names() { { MMA_FUZZ_TARGET='' "$program" 2>&1 || true; } | sed -n 's/.*expected one of //p'; }

# fuzz TARGET SECONDS
fuzz() {
  local target=$1 seconds=$2 corpus=$build/corpus/$1 findings=$build/findings log=$build/$1.log found=0
  mkdir -p "$findings"
  python3 tests/fuzz/seeds.py "$target" "$build/seeds/$target"
  mkdir -p "$corpus"
  # LibTorch is not built with AddressSanitizer, so containers that cross its border cannot be checked.
  MMA_FUZZ_TARGET=$target LSAN_OPTIONS=suppressions=tests/sanitize/leaks.supp:print_suppressions=0 ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=1 OMP_NUM_THREADS=1 \
    "$program" "$corpus" "$build/seeds/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -use_value_profile=0 -print_final_stats=1 -artifact_prefix="$findings/$target-" > "$log" 2>&1 || found=1
  awk -v target="$target" -v seconds="$seconds" '
    / cov: / { for (i = 1; i < NF; ++i) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corpus = $(i + 1) } }
    /stat::number_of_executed_units/ { runs = $2 }
    /stat::peak_rss_mb/ { memory = $2 }
    END { printf "| %s | %s | %d | %s | %s | %s | %s |\n", target, seconds, runs, cov, ft, corpus, memory }' "$log"
  if [ "$found" = 1 ]; then
    say "$target: $(grep -m1 -E 'ERROR|SUMMARY|runtime error|terminate' "$log" || echo failed); see $log"
    grep -o "Test unit written to .*" "$log" >&2 || true
  fi
  return $found
}

main() {
  local target=${1:-} seconds=${2:-60} failed=0 one
  build_program
  if [ -z "$target" ]; then
    names
    return
  fi
  echo "| reader | seconds | executions | edges | features | corpus, files/bytes | peak MiB |"
  echo "|---|---:|---:|---:|---:|---:|---:|"
  for one in $([ "$target" = all ] && names || echo "$target"); do
    fuzz "$one" "$seconds" || failed=1
  done
  return $failed
}

main "$@"
