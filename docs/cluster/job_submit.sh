#!/usr/bin/env bash
# A sweep as a job of a running Ray cluster: the driver runs on the head node, the workers where there is room.
#
# Before: salience-workbench[cluster] of one version on every machine, and the model in a folder that all of them see
# under the same path (or the id of a hub model, with --allow-download). Submitting needs `pip install "ray[default]"`
# on this machine and the dashboard's address of the cluster.
set -euo pipefail

: "${RAY_ADDRESS:=http://127.0.0.1:8265}"
: "${MODEL:=/shared/models/llama}"
: "${TEXTS:=/shared/texts}"
: "${RESULTS:=/shared/results}"
: "${WORKERS:=8}"
export RAY_ADDRESS

# WORKBENCH_CACHE on a shared folder keeps every cell: a job that is submitted again goes on where it was
ray job submit \
    --runtime-env-json "{\"env_vars\": {\"WORKBENCH_CACHE\": \"${RESULTS}/cache\"}}" \
    -- \
    workbench sensitivity "${MODEL}" \
    --quantizer gptq --bits 2,3,4,8 --calibration "${TEXTS}/calibration.txt" \
    --ray auto --workers "${WORKERS}" --gpus-per-worker 0.5 \
    --out "${RESULTS}/cells.parquet"
