#!/usr/bin/env bash
# What a second process is worth on this machine: mma-train in one process and in two, one thread each, the same batch
# (each process computes its half), in alternating rounds. Prints a Markdown table of medians.
#
#   scaling.sh MMA_TRAIN [ROUNDS]    ROUNDS of each (default 5)
#
# Needs Debian's dataset-fashion-mnist and two cores. Images a second: of the second epoch's steps, without its test.
set -euo pipefail

program=${1:?expected mma-train}
rounds=${2:-5}
data=/usr/share/datasets/fashion-mnist
[ -d "$data" ] || { echo "scaling.sh: $data is missing (Debian's dataset-fashion-mnist)" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
images=1280 batch=128
export OMP_NUM_THREADS=1 MASTER_ADDR=127.0.0.1

# A column of the last epoch.
column() {
  awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == name) column = i } END { print $column }' \
    "$1/metrics.csv"
}

# train PROCESSES OUT OPTION...
train() {
  local processes=$1 out=$2 ranks=()
  shift 2
  MASTER_PORT=$((20000 + RANDOM % 10000))
  export MASTER_PORT
  for ((rank = 0; rank < processes; ++rank)); do
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$processes "$program" --dataset fashion-mnist --data "$data" --epochs 2 \
      --limit-train $images --limit-test 64 --batch $batch --threads 1 --out "$out" "$@" > "$folder/log" 2>&1 &
    ranks+=($!)
  done
  for process in "${ranks[@]}"; do wait "$process" || { cat "$folder/log" >&2; exit 1; }; done
  rm -f "$out/checkpoint.safetensors"
}

median() { sort -g | awk '{ value[NR] = $1 } END { print (NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2) }'; }

compare() {
  local name=$1
  shift
  for ((round = 0; round < rounds; ++round)); do
    for processes in 1 2; do
      out=$folder/$name-$processes-$round
      train "$processes" "$out" "$@"
      echo "$batch / $(column "$out" seconds_per_step)" | bc -l >> "$folder/$name-$processes.speed"
      column "$out" communication_share >> "$folder/$name-$processes.share"
    done
    echo "$(tail -n 1 "$folder/$name-2.speed") / $(tail -n 1 "$folder/$name-1.speed")" | bc -l >> "$folder/$name.ratio"
  done
  printf '| %s | %.0f | %.0f | %.2f | %.0f %% |\n' "$name" "$(median < "$folder/$name-1.speed")" \
    "$(median < "$folder/$name-2.speed")" "$(median < "$folder/$name.ratio")" \
    "$(median < "$folder/$name-2.share" | awk '{ print 100 * $1 }')"
}

echo "| network | images/s, 1 process | 2 processes | ratio of a round | of that in communication |"
echo "|---|---|---|---|---|"
compare resnet20 --model resnet20
compare resnet20-sync --model resnet20 --sync-batch-norm
compare vgg11-bn-narrow --model vgg11-bn-narrow
