#!/usr/bin/env bash
# Weights of a real training for bench-cpu --trained: the networks that it measures, trained for some steps on
# Fashion-MNIST with MMA, once.
# Usage: train.sh MMA_TRAIN FOLDER    leaves FOLDER/NETWORK.safetensors; a file that is there already stays.
set -euo pipefail

mma_train=$(realpath "$1")
folder=$2
mkdir -p "$folder"

# train NETWORK IMAGES BATCH
train() {
  local network=$1 images=$2 batch=$3
  local file=$folder/$network.safetensors run=$folder/$network
  [ -e "$file" ] && return
  echo "bench: training $network for $((images / batch)) steps" >&2
  rm -rf "$run"
  "$mma_train" --model "$network" --dataset fashion-mnist --limit-train "$images" --limit-test "$batch" --epochs 1 \
    --batch "$batch" --threads 2 --regularizer mma --out "$run" > "$folder/$network.log" 2>&1 ||
    { cat "$folder/$network.log" >&2; exit 1; }
  "$mma_train" --export "$file" --out "$run" > /dev/null
  rm -rf "$run"
}

train vgg19-bn 3200 32
train wrn-28-10 160 8
train resnet56 6400 64
train densenet-40-12 3200 32
