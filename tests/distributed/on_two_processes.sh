#!/bin/sh
# Runs a program as two processes that find each other by a file, and looks at what the first one says: its
# cross-entropy has fallen. on_two_processes.sh PROGRAM
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run() { STORE_FILE=$folder/store RANK=$1 WORLD_SIZE=2 timeout 100 "$program"; }
program=$1

run 1 >"$folder/output-1" 2>&1 &
other=$!
run 0 >"$folder/output-0" 2>&1 || { cat "$folder/output-0" "$folder/output-1"; exit 1; }
wait "$other" || { cat "$folder/output-1"; exit 1; }
cat "$folder/output-0"
[ ! -s "$folder/output-1" ] || { echo "the second process speaks:"; cat "$folder/output-1"; exit 1; }
awk '/^step / { last = $4; if (first == "") first = last } END { exit !(last < first / 2) }' "$folder/output-0"
