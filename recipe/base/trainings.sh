# Settings and trainings of a recipe. The recipe's run.sh sets `recipe` (its folder), `family` (of the tiny model) and, if
# needed, the variables below that have a default here; it sources this file, or stages.sh, which sources this file.
# Settings come from the environment; paths are relative to the project's folder:
#   MODEL  the published checkpoint, a folder        DATA       folder with the rows: a parquet file for each stage
#   OUT    output folder                             TRAIN VAL  other files for train and val
#   SFT    an SFT checkpoint in place of OUT/sft's   GPUS       GPUs of this node, for SFT
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
stages=${stages:-sft, rl, val, eval, report and smoke}
stage=${1:?which stage? $stages}
shift
OUT=$(realpath -m "${OUT:-runs/$(basename "$recipe")}")
mkdir -p "$OUT/logs"
sft_pixels=${sft_pixels:-262144} rl_pixels=${rl_pixels:-$((8192 * 28 * 28))} # pixels of the largest image that the model sees
sft_config=${sft_config:-$PWD/recipe/base} tool=${tool:-$PWD/recipe/base/tool.yaml}

source "$recipe/../base/checkpoints.sh"
with_pixels() { # CHECKPOINT PIXELS NAME: makes OUT/NAME, links to the checkpoint with another largest image
  # of several nodes only the first one makes it; torchrun makes the others wait
  [ "${NODE_RANK:-0}" != 0 ] || python -m codevision_ext.models.max_pixels "$1" "$OUT/$3" "$2"
}
sft() { # NAME FILE CHECKPOINT [settings]: resumes from the last checkpoint in OUT/NAME
  local nodes=(--standalone)
  [ "${NNODES:-1}" = 1 ] ||
    nodes=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
  restore_last_step "$OUT/$1"
  VERL_FILE_LOGGER_PATH=$OUT/logs/$1.jsonl torchrun "${nodes[@]}" --nproc-per-node "${GPUS:-8}" \
    -m verl.trainer.sft_trainer --config-path "$sft_config" --config-name sft \
    data.train_files="$2" model.path="$3" trainer.default_local_dir="$OUT/$1" "${@:4}"
}
grpo() { # CHECKPOINT METRICS [settings]: resumes from OUT/rl; uses a running Ray cluster of this node
  restore_last_step "$OUT/rl"
  VERL_FILE_LOGGER_PATH=$2 TENSORBOARD_DIR=$OUT/tensorboard python -m verl.trainer.main_ppo \
    --config-path "$recipe" --config-name grpo actor_rollout_ref.model.path="$1" \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$tool" \
    data.train_files="${TRAIN:-$DATA/train.parquet}" data.val_files="${VAL:-$DATA/val.parquet}" \
    trainer.default_local_dir="$OUT/rl" codevision.records="$OUT/rollouts" "${@:3}"
}
begin_smoke() { # prepares OUT/smoke for a tiny model on the CPU
  export VERL_PLATFORM=cpu OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} RAY_worker_niceness=${RAY_worker_niceness:-0}
  OUT=$OUT/smoke
  DATA=$OUT/data GPUS=1
  rm -rf "$OUT"
  mkdir -p "$OUT/logs"
}
tiny_model() { # [options]: makes OUT/tiny
  codevision tiny-model --family "$family" --hidden 64 --layers 2 --vision-hidden 32 --vision-layers 1 --out "$OUT/tiny" "$@"
}
