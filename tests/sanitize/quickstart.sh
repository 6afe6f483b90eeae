#!/usr/bin/env bash
# The quickstart under valgrind: no error of memory, no uninitialised value, nothing lost.
#
#   quickstart.sh MMA_QUICKSTART
#
# Ends with 1 where there is a finding; valgrind.supp says what is LibTorch's.
set -euo pipefail
program=${1:?expected mma-quickstart}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export OMP_NUM_THREADS=1
if ! valgrind --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
  --suppressions="$(dirname "$0")/valgrind.supp" --num-callers=20 --log-file="$log" "$program" > /dev/null; then
  cat "$log" >&2
  exit 1
fi
sed -n 's/^==[0-9]*== *\(.*\(definitely lost\|indirectly lost\|ERROR SUMMARY\).*\)/\1/p' "$log"
