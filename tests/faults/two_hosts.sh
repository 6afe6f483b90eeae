#!/usr/bin/env bash
# Two hosts, as two network namespaces with a cable (veth) between them stand for them: mma-train in two processes, one in
# each, trains to the same numbers as on one host; when the cable is pulled both end, and name who is out of reach.
#
#   two_hosts.sh MMA_TRAIN [PYTHON]    PYTHON: one with torch, then also by torchrun, started once on each host
#
# Needs root and iproute2's ip; ends with 77 where it cannot, which ctest counts as skipped. What this cannot show: the
# speed of a real network, InfiniBand, GPUs, hosts with clocks, files and LibTorch versions of their own.
set -euo pipefail

program=$(realpath "${1:?expected mma-train}")
python=${2:-}
skip() { echo "two_hosts.sh: skipped: $*" >&2; exit 77; }
fail() { echo "two_hosts.sh: $*" >&2; exit 1; }

images=/usr/share/datasets/fashion-mnist
[ "$(id -u)" = 0 ] || skip "making network namespaces needs root"
command -v ip > /dev/null || skip "there is no ip (Debian: iproute2)"
[ -d "$images" ] || skip "$images is missing (Debian: dataset-fashion-mnist)"

folder=$(mktemp -d)
hosts=("mma-host0-$$" "mma-host1-$$")
clean() {
  for host in "${hosts[@]}"; do
    for process in $(ip netns pids "$host" 2> /dev/null); do kill -9 "$process" 2> /dev/null || true; done
    ip netns delete "$host" 2> /dev/null || true
  done
  rm -rf "$folder"
}
trap clean EXIT

for host in "${hosts[@]}"; do
  ip netns add "$host" 2> "$folder/why" || skip "no network namespace can be made here: $(cat "$folder/why")"
  ip -n "$host" link set lo up
done
ip -n "${hosts[0]}" link add cable type veth peer name cable netns "${hosts[1]}" 2> "$folder/why" ||
  skip "no cable (veth) can be made here: $(cat "$folder/why")"
for number in 0 1; do
  ip -n "${hosts[$number]}" address add 10.77.0.$((number + 1))/24 dev cable
  ip -n "${hosts[$number]}" link set cable up
done

export MASTER_ADDR=10.77.0.1 MASTER_PORT=29577 GLOO_SOCKET_IFNAME=cable OMP_NUM_THREADS=1
options=(--model resnet20 --dataset fashion-mnist --data "$images" --limit-train 64 --limit-test 32 --batch 16 --lr 0.001
  --threads 1 --sync-batch-norm)

# on HOST COMMAND...: on that host, in the background
started=()
on() {
  local host=${hosts[$1]}
  shift
  ip netns exec "$host" "$@" &
  started+=($!)
}
# Exit codes of all that were started.
wait_for_all() {
  codes=
  for process in "${started[@]}"; do
    code=0
    wait "$process" || code=$?
    codes="$codes $code"
  done
  started=()
}
losses() { cut -d, -f1-3 "$1/metrics.csv"; }
expect_same_losses() {
  paste -d, <(losses "$folder/one") <(losses "$1") |
    awk -F, 'NR > 1 { d = $3 - $6; if (d < 0) d = -d; if (!(d <= 1e-3 * $3)) exit 1; ++n } END { exit n != 2 }' ||
    fail "the losses of $1 are not those of one process: $(losses "$1")"
}

"$program" "${options[@]}" --timeout 10 --epochs 2 --out "$folder/one" > "$folder/log" || fail "one process: $(cat "$folder/log")"

for rank in 0 1; do
  on $rank env RANK=$rank LOCAL_RANK=0 WORLD_SIZE=2 "$program" "${options[@]}" --timeout 10 --epochs 2 --out "$folder/two" \
    > "$folder/log$rank" 2>&1
done
wait_for_all
[ "$codes" = " 0 0" ] || fail "two hosts ended with$codes: $(cat "$folder"/log[01])"
expect_same_losses "$folder/two"
echo "two hosts train as one process does: $(losses "$folder/two" | tail -n 1)"

if [ -n "$python" ]; then
  for host in 0 1; do
    on $host "$python" -m torch.distributed.run --no-python --nnodes 2 --node-rank $host --nproc-per-node 1 \
      --master-addr 10.77.0.1 --master-port 29578 "$program" "${options[@]}" --timeout 10 --epochs 2 --out "$folder/torchrun" \
      > "$folder/log$host" 2>&1
  done
  wait_for_all
  [ "$codes" = " 0 0" ] || fail "torchrun on two hosts ended with$codes: $(cat "$folder"/log[01])"
  expect_same_losses "$folder/torchrun"
  echo "torchrun, once on each host, does too: $(losses "$folder/torchrun" | tail -n 1)"
fi

for rank in 0 1; do
  on $rank env RANK=$rank LOCAL_RANK=0 WORLD_SIZE=2 "$program" "${options[@]}" --epochs 100000 --timeout 3 \
    --out "$folder/pulled" > "$folder/log$rank" 2>&1
done
grep -q -m 1 '^epoch ' < <(tail -n +1 -f --pid="${started[0]}" "$folder/log0") ||
  fail "two hosts did not train: $(cat "$folder"/log[01])"
ip -n "${hosts[1]}" link set cable down
wait_for_all
[ "$codes" = " 3 3" ] || fail "without the cable they ended with$codes: $(cat "$folder"/log[01])"
grep -q '^mma-train: rank 1 has given no sign of life for ' "$folder/log0" || fail "rank 0 said: $(cat "$folder/log0")"
grep -q '^mma-train: rank 0 has ended or is stopped: ' "$folder/log1" || fail "rank 1 said: $(cat "$folder/log1")"
echo "without the cable both end: $(tail -n 1 "$folder/log0")"
