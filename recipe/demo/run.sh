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
if [ "$device" = cpu ]; then
  export VERL_PLATFORM=cpu OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  export RAY_worker_niceness=${RAY_worker_niceness:-0} # Ray's default 15 gives all other processes priority
fi
ranks=1 # processes of SFT
if [ "$device" = cpu ] && [ "$(env -u OMP_NUM_THREADS nproc)" -gt 1 ]; then ranks=2; fi

source "$recipe/../base/checkpoints.sh"
q() { # PATH: prints the path quoted for Hydra
  local quote="'"
  echo "'${1//$quote/\\$quote}'"
}
sft() { # FILE MODEL FOLDER [settings]: supervised fine-tuning; resumes from the last checkpoint in FOLDER
  restore_last_step "$3"
  VERL_FILE_LOGGER_PATH=$OUT/logs/$stage.jsonl exec torchrun --standalone --nproc-per-node "$ranks" \
    -m verl.trainer.sft_trainer --config-path "$recipe" --config-name sft \
    data.train_files="$(q "$1")" model.path="$(q "$2")" trainer.default_local_dir="$(q "$3")" "${@:4}"
}
grpo() { # FOLDER METRICS [settings]: reinforcement learning from the sft checkpoint
  restore_last_step "$1"
  VERL_FILE_LOGGER_PATH=$2 TENSORBOARD_DIR=$OUT/tensorboard python -m verl.trainer.main_ppo \
    --config-path "$recipe" --config-name grpo device="$device" \
    actor_rollout_ref.model.path="$(q "${MODEL:-$(last "$OUT/sft")}")" \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$(q "$recipe/tool.yaml")" \
    data.train_files="$(q "$OUT/data/train.parquet")" data.val_files="$(q "$OUT/data/val.parquet")" data.seed="$seed" \
    trainer.default_local_dir="$(q "$1")" "${@:3}"
}

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
    # verl's file logger empties its file when a run resumes; the report reads the last line of a step.
    metrics=$OUT/metrics.jsonl earlier=$OUT/metrics_earlier.jsonl
    [ ! -s "$metrics" ] || { cat "$metrics" >>"$earlier" && rm "$metrics"; }
    grpo "$OUT/grpo" "$metrics" codevision.records="$(q "$OUT/rollouts")" "$@"
    [ ! -s "$earlier" ] || { touch "$metrics" && cat "$metrics" >>"$earlier" && mv "$earlier" "$metrics"; }
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
        MODEL=$FROM grpo "$OUT/grpo" "$OUT/metrics.jsonl" codevision.records="$(q "$OUT/rollouts")" \
          data.train_files="$(q "$RUN/data/train.parquet")" data.val_files="$(q "$RUN/data/test.parquet")" \
          trainer.total_training_steps="$STEPS" trainer.save_freq="$STEPS" trainer.test_freq=-1 "$@"
        end=$(last "$OUT/grpo")
        ;;
      sft) # at the stage's 2e-3 the skills of FROM are lost in three steps, because Adam's state is new
        (sft "$RUN/data/sft.parquet" "$FROM" "$OUT/sft" data.train_batch_size=32 optim.lr=1e-4 \
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
