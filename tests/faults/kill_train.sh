#!/usr/bin/env bash
# kill -9 at random moments of a training: each run goes on by --resume and ends with the bits of one that nobody disturbed.
#
#   kill_train.sh MMA_TRAIN [COUNT] [SEED]    COUNT kills (default 50), at moments drawn from SEED (default 1)
#
# The network is small and the epochs are short, so that many kills meet the writing of a checkpoint. A killed run is killed
# again, up to three times, before it may end. Needs Debian's dataset-fashion-mnist. Ends with 1 where a bit differs.
set -euo pipefail

program=${1:?expected mma-train}
count=${2:-50}
RANDOM=${3:-1}
data=/usr/share/datasets/fashion-mnist
[ -d "$data" ] || { echo "kill_train.sh: $data is missing (Debian's dataset-fashion-mnist)" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

begin() {
  exec "$program" --model resnet20 --dataset fashion-mnist --data "$data" --limit-train 96 --limit-test 32 --batch 32 \
    --epochs 12 --checkpoint-steps 2 --threads 1 --seed 7 --out "$1"
}
go_on() { exec "$program" --resume --out "$1"; }

# What must be the same: the weights, and every figure but seconds, their share in communication, memory and date.
result_of() {
  "$program" --export "$1/weights.safetensors" --out "$1" > /dev/null
  { sha256sum < "$1/weights.safetensors" && awk -F, '{ NF -= 5 } 1' "$1/metrics.csv"; } | sha256sum
}

start=$(date +%s%N)
(begin "$folder/whole") > /dev/null
milliseconds=$((($(date +%s%N) - start) / 1000000))
whole=$(result_of "$folder/whole")

kills=0 differ=0 runs=0 before_the_first=0
while [ "$kills" -lt "$count" ]; do
  run=$folder/run-$runs
  runs=$((runs + 1))
  for ((again = 0; again < 3 && kills < count; ++again)); do
    if [ -e "$run/checkpoint.safetensors" ]; then (go_on "$run") > /dev/null 2>&1 & else (begin "$run") > /dev/null 2>&1 & fi
    child=$!
    moment=$((RANDOM % milliseconds + 1))
    sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
    kill -9 $child 2> /dev/null || true
    if wait $child 2> /dev/null; then break; fi # it had ended by itself
    kills=$((kills + 1))
    [ -e "$run/checkpoint.safetensors" ] || before_the_first=$((before_the_first + 1))
  done
  if [ -e "$run/checkpoint.safetensors" ]; then (go_on "$run") > /dev/null; else rm -rf "$run" && (begin "$run") > /dev/null; fi
  [ "$(result_of "$run")" = "$whole" ] || { differ=$((differ + 1)); echo "$run ends with other bits" >&2; }
  rm -rf "$run"
done
echo "$kills kills of $runs runs, $before_the_first of them before the first checkpoint; ended with other bits: $differ"
[ "$differ" = 0 ]
