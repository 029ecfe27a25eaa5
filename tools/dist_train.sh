#!/usr/bin/env bash
# Train on several GPUs (or, where there is none, several CPU processes).
#   bash tools/dist_train.sh CONFIG NUM_PROCESSES [options of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
config=${1:?CONFIG is missing} processes=${2:?NUM_PROCESSES is missing}

exec "${PYTHON:-python3}" "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
