# Trainings of a demo. Its run.sh sets `recipe` (its folder), `OUT`, `stage`, `seed` and `device` (cpu or gpu), and sources this file.
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
searchpath="hydra.searchpath=[pkg://verl.trainer.config,$(q "file://$recipe/../demo")]"
sft() { # FILE MODEL FOLDER [settings]: supervised fine-tuning; resumes from the last checkpoint in FOLDER
  restore_last_step "$3"
  VERL_FILE_LOGGER_PATH=$OUT/logs/$stage.jsonl exec torchrun --standalone --nproc-per-node "$ranks" \
    -m verl.trainer.sft_trainer --config-path "$recipe" --config-name sft "$searchpath" \
    data.train_files="$(q "$1")" model.path="$(q "$2")" trainer.default_local_dir="$(q "$3")" "${@:4}"
}
grpo() { # MODEL FOLDER METRICS [settings]: reinforcement learning; `tensorboard` is another folder of TensorBoard's files
  restore_last_step "$2"
  VERL_FILE_LOGGER_PATH=$3 TENSORBOARD_DIR=${tensorboard:-$OUT/tensorboard} python -m verl.trainer.main_ppo \
    --config-path "$recipe" --config-name grpo "$searchpath" device="$device" \
    actor_rollout_ref.model.path="$(q "$1")" \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$(q "$recipe/tool.yaml")" \
    data.train_files="$(q "$OUT/data/train.parquet")" data.val_files="$(q "$OUT/data/val.parquet")" data.seed="$seed" \
    trainer.default_local_dir="$(q "$2")" "${@:4}"
}
grpo_stage() { # MODEL [settings]: the stage `grpo`, with records and metrics of the whole training
  # verl's file logger empties its file when a run resumes; the report reads the last line of a step.
  local metrics=$OUT/metrics.jsonl earlier=$OUT/metrics_earlier.jsonl
  [ ! -s "$metrics" ] || { cat "$metrics" >>"$earlier" && rm "$metrics"; }
  grpo "$1" "$OUT/grpo" "$metrics" codevision.records="$(q "$OUT/rollouts")" "${@:2}"
  [ ! -s "$earlier" ] || { touch "$metrics" && cat "$metrics" >>"$earlier" && mv "$earlier" "$metrics"; }
}
