#!/usr/bin/env bash
# Runs one stage of the demo:
#     [OUT=runs/demo] [SEED=0] [DEVICE=cpu] bash recipe/demo/run.sh STAGE [verl settings]
# `codevision demo` runs the stages below in this order with this file. OUT is the output folder; DEVICE is cpu or gpu.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stage=${1:?which stage? data, model, letters, read, sft, grpo, eval, report or vary}
shift
seed=${SEED:-0} device=${DEVICE:-cpu}
mkdir -p "${OUT:=runs/demo}/logs"
OUT=$(cd "$OUT" && pwd)
source "$recipe/trainings.sh"

case $stage in
  data)
    exec python -m data_prep glyphs --out "$OUT/data" --rows 2000 --read-rows 7500 --sft-rows 1900 --test-items 100 \
      --no-mask-failed-calls --seed "$seed" --force "$@"
    ;;
  model)
    exec codevision tiny-model --family qwen2_5_vl --hidden 128 --layers 2 --vision-hidden 64 --vision-layers 2 \
      --max-pixels 7056 --out "$OUT/model" --seed "$seed" --force "$@"
    ;;
  letters) # single characters; at twice this learning rate one seed in three learns nothing
    sft "$OUT/data/letters.parquet" "$OUT/model" "$OUT/letters" data.train_batch_size=32 optim.lr=1e-3 "$@"
    ;;
  read) # upright lines of characters; `base` of the evaluation
    sft "$OUT/data/read.parquet" "$(last "$OUT/letters")" "$OUT/read" \
      data.train_batch_size=32 trainer.total_epochs=3 "$@"
    ;;
  sft) # use of the tool
    sft "$OUT/data/sft.parquet" "$(last "$OUT/read")" "$OUT/sft" trainer.total_epochs=2 "$@"
    ;;
  grpo)
    grpo_stage "${MODEL:-$(last "$OUT/sft")}" "$@"
    ;;
  eval)
    exec codevision eval --force --data "$OUT/data/test.parquet" --tools on,off --seed "$seed" --out "$OUT" --recipe "$recipe/grpo.yaml" \
      --checkpoint base="$(last "$OUT/read")" \
      --checkpoint sft="$(last "$OUT/sft")" \
      --checkpoint rl="$(last "$OUT/grpo")" "$@"
    ;;
  vary) # one training of a study: STEPS steps BY grpo, sft or nothing, from checkpoint FROM, on the rows of run RUN
    case $BY in
      grpo)
        grpo "$FROM" "$OUT/grpo" "$OUT/metrics.jsonl" codevision.records="$(q "$OUT/rollouts")" \
          data.train_files="$(q "$RUN/data/train.parquet")" data.val_files="$(q "$RUN/data/test.parquet")" \
          trainer.total_training_steps="$STEPS" trainer.save_freq="$STEPS" trainer.test_freq=-1 "$@"
        end=$(last "$OUT/grpo")
        ;;
      sft) # at the stage's 2e-3 the skills of FROM are lost in three steps, because Adam's state is new
        # verl's SFT shuffles its rows with a fixed seed
        python -c 'import sys, numpy, pyarrow.parquet as pq
rows = pq.read_table(sys.argv[1])
pq.write_table(rows.take(numpy.random.default_rng(int(sys.argv[3])).permutation(len(rows))), sys.argv[2])' \
          "$RUN/data/sft.parquet" "$OUT/rows.parquet" "$seed"
        (sft "$OUT/rows.parquet" "$FROM" "$OUT/sft" data.train_batch_size=32 optim.lr=1e-4 \
          trainer.total_training_steps="$STEPS" trainer.total_epochs=1000)
        end=$(last "$OUT/sft")
        ;;
      nothing) end=$FROM ;;
    esac
    ln -s "$end" "$OUT/checkpoint"
    ;;
  report)
    exec codevision report --inline "$OUT" "$@"
    ;;
  *)
    echo "run.sh: no stage $stage; there are data, model, letters, read, sft, grpo, eval and report" >&2
    exit 2
    ;;
esac
