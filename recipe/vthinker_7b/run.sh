#!/usr/bin/env bash
# V-Thinker on nodes of 8 GPUs: perception, sft, rl, val, eval, report, smoke. The other trainings are in recipe/base.
#     MODEL=/models/Qwen2.5-VL-7B-Instruct DATA=/data OUT=runs/vthinker_7b bash recipe/vthinker_7b/run.sh STAGE [verl settings]
# PERCEPTION is a checkpoint in place of the one in OUT/perception. SUITES are the suites of eval, as NAME=PATH.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen2_5_vl sft_pixels=$((2048 * 2048)) rl_pixels=$((3072 * 28 * 28)) sft_config=$recipe tool=$recipe/tool.yaml
stages='perception, sft, rl, val, eval, report and smoke'
source "$recipe/../base/trainings.sh"

case $stage in
  perception) # teaches places in images
    with_pixels "${MODEL:?the checkpoint to start from, a folder}" "$sft_pixels" model
    sft perception "$DATA/perception.parquet" "$OUT/model" stage=perception "$@"
    ;;
  sft) # teaches drawing with code
    with_pixels "${PERCEPTION:-$(last "$OUT/perception")}" "$sft_pixels" perception_model
    sft sft "$DATA/sft.parquet" "$OUT/perception_model" stage=interactive "$@"
    ;;
  eval) # VTBench by both protocols, on one GPU; options such as `--engine vllm --replicas 8` may follow
    with_pixels "${MODEL:?the checkpoint that perception started from, a folder}" "$rl_pixels" base_model
    words=()
    for suite in ${SUITES:-vtbench_published=$DATA/vtbench vtbench=$DATA/vtbench}; do
      words+=(--suite "$suite")
      [[ $suite != vtbench_published=* ]] || words+=(--set judge.published_prompts="$DATA/vtbench_prompts")
    done
    codevision eval --force --out "$OUT" --recipe "$recipe/grpo.yaml" --tools on --temperature 0 --max-tokens 16384 \
      --set judge.model=Qwen/Qwen3-VL-235B-A22B-Instruct \
      --checkpoint base="$OUT/base_model" --checkpoint sft="$OUT/sft_model" --checkpoint rl="$(last "$OUT/rl")" \
      "${words[@]}" "$@"
    ;;
  smoke) # two steps of each training with a tiny model on the CPU; only the sizes differ from the recipe
    begin_smoke
    python -m data_prep figures --rows 8 --cell-rows 1 --strip-rows 1 --place-rows 8 --sft-rows 8 --test-rows 1 --out "$DATA"
    tiny_model --texts "$DATA/corpus.jsonl"
    with_pixels "$OUT/tiny" 7056 model
    sft perception "$DATA/places.parquet" "$OUT/model" stage=perception variant=smoke_sft
    with_pixels "$(last "$OUT/perception")" 7056 perception_model
    sft sft "$DATA/sft.parquet" "$OUT/perception_model" stage=interactive variant=smoke_sft
    with_pixels "$(last "$OUT/sft")" 7056 sft_model
    grpo "$OUT/sft_model" "$OUT/metrics.jsonl" variant=smoke "$@"
    ;;
  *) source "$recipe/../base/stages.sh" ;;
esac
