#!/usr/bin/env bash
# Runs one stage of the drawing demo:
#     [OUT=runs/vthinker] [SEED=0] bash recipe/vthinker_demo/run.sh STAGE [verl settings]
# `codevision demo --recipe recipe/vthinker_demo` runs the stages in the order of stages.yaml with this file.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stages='data, model, cells, strips, places, sft, sft_alone, grpo, grpo_alone, eval and report'
stage=${1:?which stage? $stages}
shift
seed=${SEED:-0} device=cpu
mkdir -p "${OUT:=runs/vthinker}/logs"
OUT=$(cd "$OUT" && pwd)
source "$recipe/../demo/trainings.sh"

case $stage in
  data)
    exec python -m data_prep figures --out "$OUT/data" --cell-rows 9600 --strip-rows 13440 --place-rows 13440 --sft-rows 1600 \
      --sft-places 0.5 --rows 600 --test-rows 240 --no-system-message --no-mask-failed-calls --seed "$seed" --force "$@"
    ;;
  model)
    exec codevision tiny-model --family qwen2_5_vl --hidden 128 --layers 2 --vision-hidden 64 --vision-layers 2 \
      --max-pixels 7056 --texts "$OUT/data/corpus.jsonl" --out "$OUT/model" --seed "$seed" --force "$@"
    ;;
  cells) # perception: one shape in one image token
    sft "$OUT/data/cells.parquet" "$OUT/model" "$OUT/cells" data.train_batch_size=32 "$@"
    ;;
  strips) # perception: three image tokens
    sft "$OUT/data/strips.parquet" "$(last "$OUT/cells")" "$OUT/strips" data.train_batch_size=32 optim.lr=1e-3 "$@"
    ;;
  places) # perception: a whole page; the result is the checkpoint `perception`
    sft "$OUT/data/places.parquet" "$(last "$OUT/strips")" "$OUT/places" data.train_batch_size=32 optim.lr=1e-3 "$@"
    ;;
  sft) # interaction: code that draws
    sft "$OUT/data/sft.parquet" "$(last "$OUT/places")" "$OUT/sft" trainer.total_epochs=3 "$@"
    ;;
  sft_alone) # the same without the perception stages
    sft "$OUT/data/sft.parquet" "$OUT/model" "$OUT/sft_alone" trainer.total_epochs=3 "$@"
    ;;
  grpo)
    grpo_stage "$(last "$OUT/sft")" "$@"
    ;;
  grpo_alone)
    tensorboard=$OUT/grpo_alone/tensorboard
    grpo "$(last "$OUT/sft_alone")" "$OUT/grpo_alone" "$OUT/logs/grpo_alone.jsonl" "$@"
    ;;
  eval)
    exec codevision eval --force --suite rows="$OUT/data/test.parquet" --tools on,off --seed "$seed" --out "$OUT" \
      --recipe "$recipe/grpo.yaml" \
      --checkpoint base="$OUT/model" \
      --checkpoint perception="$(last "$OUT/places")" \
      --checkpoint sft="$(last "$OUT/sft")" \
      --checkpoint rl="$(last "$OUT/grpo")" \
      --checkpoint rl_without_perception="$(last "$OUT/grpo_alone")" "$@"
    ;;
  report)
    exec codevision report --inline "$OUT" "$@"
    ;;
  *)
    echo "run.sh: no stage $stage; there are $stages" >&2
    exit 2
    ;;
esac
