#!/usr/bin/env bash
# Pairs of runs, without a regularizer and with MMA, seed after seed for as long as there is time: what short stretches
# of a GPU add up to. Of each finished run its small files stay, as mma-reproduce gather reads them.
#
#   train_pairs.sh --minutes M --epochs E --out DIR [--program FILE] [--coefficient C] [--pairs N] -- WORDS
#
# WORDS: of mma-train, without seed, regularizer, epochs and folder. The seeds are 123, 223, 323, ..., those left out that
# DIR has already. First two epochs of a pair are tried side by side and two alone, to find which is faster and how long
# a pair takes: none is begun that would not be finished. What was interrupted is gone on with by the same command.
# --coefficient: MMA's, where it is not the recipe's; --pairs: no more than so many.
set -euo pipefail

fail() {
  echo "train_pairs.sh: $*" >&2
  exit 1
}

minutes='' epochs='' out='' program=build-demo/bin/mma-train most=1000000
coefficient=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ $# -ge 2 ] || fail "$1 lacks its value"
  case $1 in
    --minutes) minutes=$2 ;;
    --epochs) epochs=$2 ;;
    --out) out=$2 ;;
    --program) program=$2 ;;
    --coefficient) coefficient=(--coefficient "$2") ;;
    --pairs) most=$2 ;;
    *) fail "'$1' is not known; expected --minutes, --epochs, --out, --program, --coefficient, --pairs, then -- and words of mma-train" ;;
  esac
  shift 2
done
[ $# -gt 0 ] && shift
words=("$@")
for number in minutes epochs most; do
  [[ ${!number} =~ ^[0-9]+$ ]] || fail "--${number/most/pairs} is '${!number}'; expected a whole number"
done
[ "$epochs" -ge 2 ] || fail "--epochs is $epochs; expected at least 2, so that two can be tried"
[ -n "$out" ] || fail "--out is missing; expected the folder where runs are gathered"
command -v "$program" > /dev/null || fail "there is no program $program; name mma-train by --program"
mkdir -p "$out"

running=$out/running # the runs with their checkpoints, until they are finished
seconds_left() { echo $((minutes * 60 - SECONDS)); }

# The words of one of the two.
arm() { if [ "$1" = mma ]; then echo --regularizer mma "${coefficient[@]}"; else echo --regularizer none; fi; }

finished() { compgen -G "$out/$1-*seed$2/metrics.csv" > /dev/null || [ -e "$out/$1-seed$2/metrics.csv" ]; }

# A member of a config.json's settings.
setting() { sed -n "s/^ *\"$2\": \([^,]*\),\{0,1\}$/\1/p" "$1/config.json" | tail -n 1; }

# The seconds of a run's last epoch.
last_epoch() {
  awk -F, 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == "seconds") column = i } END { print $column }' "$1/metrics.csv"
}

# Trains one arm of a seed to its end, or goes on with it; its small files move to where runs are gathered.
train() {
  local folder=$running/$1-seed$2 name
  if [ -e "$folder/checkpoint.safetensors" ]; then
    "$program" --resume --out "$folder"
  else
    # shellcheck disable=SC2046  # the arm is words
    "$program" "${words[@]}" --epochs "$epochs" --seed "$2" $(arm "$1") --out "$folder"
  fi > "$running/$1-seed$2.log" 2>&1 || fail "$1 of seed $2 failed: $(tail -n 1 "$running/$1-seed$2.log")"
  name=$1
  [ "$1" = none ] || name=$1-$(setting "$folder" coefficient)
  mkdir "$out/$name-seed$2"
  cp "$folder/config.json" "$folder/metrics.csv" "$out/$name-seed$2/"
  rm -r "$folder" "$running/$1-seed$2.log"
}

# Two epochs into a folder that is not kept.
try() {
  # shellcheck disable=SC2046  # the arm is words
  "$program" "${words[@]}" --epochs 2 --seed 1 $(arm "$1") --out "$running/trial-$2" > "$running/trial-$2.log" 2>&1 ||
    fail "two epochs of $1 failed: $(tail -n 1 "$running/trial-$2.log")"
}

# both at once: $* are jobs' process numbers
wait_for() {
  local failed=0 job
  for job in "$@"; do wait "$job" || failed=1; done
  [ $failed = 0 ] || exit 1
}

# Sets side_by_side (1 or 0) and seconds_of_pair.
try_out() {
  local start=$SECONDS together alone
  rm -rf "$running"/trial-*
  try none none & local none=$!
  try mma mma & wait_for $none $!
  together=$((SECONDS - start))
  start=$SECONDS
  try mma alone
  alone=$((SECONDS - start))
  read -r side_by_side seconds_of_pair < <(
    awk -v epochs="$epochs" -v none="$(last_epoch "$running/trial-none")" -v mma="$(last_epoch "$running/trial-mma")" \
      -v one="$(last_epoch "$running/trial-alone")" -v together="$together" -v alone="$alone" 'BEGIN {
        slower = none > mma ? none : mma
        beginning = together - 2 * slower; if (beginning < 1) beginning = 1
        beginning_alone = alone - 2 * one; if (beginning_alone < 1) beginning_alone = 1
        both = beginning + epochs * slower
        in_turn = 2 * (beginning_alone + epochs * one)
        printf "%d %d\n", both <= in_turn, 1 + 1.05 * (both <= in_turn ? both : in_turn)
      }'
  )
  rm -rf "$running"/trial-*
}

pair() {
  if [ "$side_by_side" = 1 ]; then
    local jobs=()
    for each in none mma; do finished $each "$1" || { train $each "$1" & jobs+=($!); }; done
    wait_for "${jobs[@]}"
  else
    for each in none mma; do finished $each "$1" || train $each "$1"; done
  fi
}

mkdir -p "$running"
[ "$(seconds_left)" -gt 0 ] || fail "no time is left, nothing was trained"
try_out
echo "a pair takes about $seconds_of_pair s, $([ "$side_by_side" = 1 ] && echo "both side by side" || echo "one after the other")"
trained=0
for ((seed = 123; trained < most; seed += 100)); do
  finished none $seed && finished mma $seed && continue
  [ "$(seconds_left)" -ge "$seconds_of_pair" ] || break
  pair $seed
  trained=$((trained + 1))
  echo "seed $seed is finished, $(seconds_left) s are left"
done
rmdir "$running" 2> /dev/null || true
echo "$trained pairs trained into $out"
