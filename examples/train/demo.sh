#!/usr/bin/env bash
# Trains ResNet20 on Fashion-MNIST without and with MMA regularization, prints both beside each other and draws them.
# Usage: demo.sh MMA_TRAIN [OUT]. Interrupted, it goes on where it stopped; a finished demo in OUT stays until the new
# one is complete. MMA_FASHION_MNIST: the folder of Fashion-MNIST's four files, where Debian's package is not there.
set -euo pipefail

mma_train=$(realpath "$1")
out=${2:-runs/demo}
out=${out%/}
new=$out.unfinished
options="--model resnet20 --dataset fashion-mnist --limit-train 10000 --limit-test 2500 --epochs 8 --batch 64 --threads 2"
if [ -n "${MMA_FASHION_MNIST:-}" ]; then
  options="$options --data $(realpath "$MMA_FASHION_MNIST")"
fi

if [ -e "$out" ] && [ ! -e "$out/options" ]; then
  echo "demo: $out is not an earlier demo: name another folder" >&2
  exit 2
fi

train() {
  local regularizer=$1
  local run=$new/$regularizer
  if [ -e "$run/checkpoint.safetensors" ]; then
    "$mma_train" --resume --out "$run"
  else
    # shellcheck disable=SC2086  # the options are words
    "$mma_train" $options --regularizer "$regularizer" --out "$run"
  fi
}

if [ "$(cat "$new/options" 2>/dev/null)" != "$options" ]; then
  rm -rf "$new"  # of another version of this demo
  mkdir -p "$new"
  echo "$options" >"$new/options"
fi
train none
train mma

(cd "$new" && "$mma_train" --compare none mma >table.txt && "$mma_train" --compare none mma --plot comparison.png >/dev/null)
rm -rf "$out"
mv "$new" "$out"
echo
cat "$out/table.txt"
echo "The picture: $(realpath "$out/comparison.png")"
