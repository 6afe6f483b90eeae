#!/bin/sh
# Two lines between srun or mpirun and a program that reads torchrun's variables: srun as-rank.sh mma-train ...
# MASTER_ADDR and MASTER_PORT, where rank 0 is, must be set for all processes; slurm.sh shows how.
export RANK="${SLURM_PROCID:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:?started neither by srun nor by mpirun}}}" \
  LOCAL_RANK="${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}}" \
  WORLD_SIZE="${SLURM_NTASKS:-${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:?started neither by srun nor by mpirun}}}"
exec "$@"
