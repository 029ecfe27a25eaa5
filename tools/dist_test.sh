#!/usr/bin/env bash
# Test on several GPUs (or, where there is none, several CPU processes).
#   bash tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
config=${1:?CONFIG is missing} checkpoint=${2:?CHECKPOINT is missing}
processes=${3:?NUM_PROCESSES is missing}

exec "${PYTHON:-python3}" "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" \
    --launcher pytorch "${@:4}"
