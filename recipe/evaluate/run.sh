#!/usr/bin/env bash
# Evaluates one checkpoint: `val` on your own rows with all GPUs, `columns` on the six columns with one GPU.
#     MODEL=/models/CodeVision-7B VAL=/data/val.parquet bash recipe/evaluate/run.sh val [verl settings]
#     MODEL=/models/CodeVision-7B TEST=/data/test.parquet bash recipe/evaluate/run.sh columns [options of codevision eval]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen2_5_vl
case ${1:?which stage? val, columns or smoke} in
  val) # the stage rl, with settings that train nothing
    SFT=${MODEL:?the checkpoint, a folder} TRAIN=${VAL:?a parquet file}
    set -- rl "${@:2}"
    ;;
  columns)
    cd "$recipe/../.."
    python -m codevision_ext.models.max_pixels "${MODEL:?the checkpoint, a folder}" \
      "${OUT:=runs/evaluate}/model" $((8192 * 28 * 28))
    exec codevision eval --checkpoint rl="$OUT/model" --data "${TEST:?a parquet file}" --out "$OUT" --force \
      --recipe "$recipe/grpo.yaml" --temperature 0 "${@:2}"
    ;;
esac
source "$recipe/../base/stages.sh"
