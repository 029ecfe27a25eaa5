#!/usr/bin/env bash
# Test under Slurm.
#   GPUS=8 bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS (8 by default), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS are
# read from the environment.
set -euo pipefail
partition=${1:?PARTITION is missing} job_name=${2:?JOB_NAME is missing}
config=${3:?CONFIG is missing} checkpoint=${4:?CHECKPOINT is missing}
gpus=${GPUS:-8} gpus_per_node=${GPUS_PER_NODE:-8}
[ "$gpus" -ge "$gpus_per_node" ] || gpus_per_node=$gpus

# shellcheck disable=SC2086  # SRUN_ARGS is several words
exec srun --partition="$partition" --job-name="$job_name" \
    --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
    --gres=gpu:"$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python3}" -u "$(dirname "$0")/test.py" "$config" "$checkpoint" \
    --launcher slurm "${@:5}"
