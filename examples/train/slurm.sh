#!/bin/bash
# A training on several nodes by Slurm, a process for each GPU; a job that is requeued goes on from its checkpoint.
#
#   sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 slurm.sh OUT OPTION...    OUT: a folder that rank 0 can write
#
#SBATCH --job-name=mma-train
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -eu
out=${1:?expected the folder of the run}
shift
here=${MMA_TRAIN_SCRIPTS:?expected the folder of as-rank.sh, as a job is run from a copy of this script}

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT

# The nodes may see different folders: it is rank 0's, on the first node, that counts.
if srun --nodes 1 --ntasks 1 --nodelist "$MASTER_ADDR" test -e "$out/checkpoint.safetensors"; then set -- --resume; fi
exec srun --kill-on-bad-exit=1 "$here/as-rank.sh" "${MMA_TRAIN:-mma-train}" "$@" --out "$out"
