# Stages of a recipe. The recipe's run.sh sets `recipe` (its folder), `family` (of the tiny model) and, if needed,
# `rl_pixels`, and sources this file.
# Settings come from the environment; paths are relative to the project's folder:
#   MODEL  the published checkpoint, a folder        DATA       folder with sft, train, val and test.parquet
#   OUT    output folder                             TRAIN VAL  other files for train and val
#   SFT    an SFT checkpoint in place of OUT/sft's   GPUS       GPUs of this node, for SFT
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
stages="sft, rl, val, eval, report and smoke"
stage=${1:?which stage? $stages}
shift
OUT=$(realpath -m "${OUT:-runs/$(basename "$recipe")}")
mkdir -p "$OUT/logs"
sft_pixels=262144 rl_pixels=${rl_pixels:-$((8192 * 28 * 28))} # pixels of the largest image that the model sees

source "$recipe/../base/checkpoints.sh"
with_pixels() { # CHECKPOINT PIXELS NAME: makes OUT/NAME, links to the checkpoint with another largest image
  python -m codevision_ext.models.max_pixels "$1" "$OUT/$3" "$2"
}
sft() { # CHECKPOINT [settings]: resumes from the last checkpoint in OUT/sft
  local nodes=(--standalone)
  [ "${NNODES:-1}" = 1 ] ||
    nodes=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
  restore_last_step "$OUT/sft"
  VERL_FILE_LOGGER_PATH=$OUT/logs/sft.jsonl torchrun "${nodes[@]}" --nproc-per-node "${GPUS:-8}" \
    -m verl.trainer.sft_trainer --config-path "$PWD/recipe/base" --config-name sft \
    data.train_files="$DATA/sft.parquet" model.path="$1" trainer.default_local_dir="$OUT/sft" "${@:2}"
}
grpo() { # CHECKPOINT METRICS [settings]: resumes from OUT/rl; uses a running Ray cluster of this node
  restore_last_step "$OUT/rl"
  VERL_FILE_LOGGER_PATH=$2 TENSORBOARD_DIR=$OUT/tensorboard python -m verl.trainer.main_ppo \
    --config-path "$recipe" --config-name grpo actor_rollout_ref.model.path="$1" \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$PWD/recipe/base/tool.yaml" \
    data.train_files="${TRAIN:-$DATA/train.parquet}" data.val_files="${VAL:-$DATA/val.parquet}" \
    trainer.default_local_dir="$OUT/rl" codevision.records="$OUT/rollouts" "${@:3}"
}

case $stage in
  sft) # teaches the model to use the tool
    # only the first node makes the checkpoint; torchrun makes the others wait
    [ "${NODE_RANK:-0}" != 0 ] || with_pixels "${MODEL:?the checkpoint to start from, a folder}" "$sft_pixels" model
    sft "$OUT/model" "$@"
    ;;
  rl) # GRPO with the tool
    with_pixels "${SFT:-$(last "$OUT/sft")}" "$rl_pixels" sft_model
    # verl's file logger empties its file when a run resumes
    metrics=$OUT/metrics.jsonl earlier=$OUT/metrics_earlier.jsonl
    [ ! -s "$metrics" ] || cat "$metrics" >>"$earlier"
    grpo "$OUT/sft_model" "$metrics" "$@"
    [ ! -s "$earlier" ] || { cat "$metrics" >>"$earlier" && mv "$earlier" "$metrics"; }
    ;;
  val) # evaluates the last RL checkpoint on VAL, by verl, with all GPUs of the recipe
    grpo "$OUT/sft_model" "$OUT/logs/val.jsonl" trainer.val_only=true trainer.val_before_train=true "$@"
    ;;
  eval) # six columns, with and without the tool, on one GPU; options such as `--engine vllm --replicas 8` may follow
    with_pixels "${MODEL:?the checkpoint that SFT started from, a folder}" "$rl_pixels" base_model
    codevision eval --force --data "$DATA/test.parquet" --out "$OUT" --recipe "$recipe/grpo.yaml" --temperature 0 \
      --checkpoint base="$OUT/base_model" --checkpoint sft="$OUT/sft_model" --checkpoint rl="$(last "$OUT/rl")" "$@"
    ;;
  report)
    codevision report "$OUT" "$@"
    ;;
  smoke) # two steps of SFT and two of RL with a tiny model on the CPU; only the sizes differ from the recipe
    export VERL_PLATFORM=cpu OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} RAY_worker_niceness=${RAY_worker_niceness:-0}
    OUT=$OUT/smoke
    DATA=$OUT/data GPUS=1
    rm -rf "$OUT"
    mkdir -p "$OUT/logs"
    codevision tiny-model --family "$family" --hidden 64 --layers 2 --vision-hidden 32 --vision-layers 1 --out "$OUT/tiny"
    python -m data_prep glyphs --parts rl,sft --rows 8 --sft-rows 16 --test-items 1 --out "$DATA"
    with_pixels "$OUT/tiny" 7056 model
    sft "$OUT/model" variant=smoke_sft
    with_pixels "$(last "$OUT/sft")" 7056 sft_model
    grpo "$OUT/sft_model" "$OUT/metrics.jsonl" variant=smoke "$@"
    ;;
  *)
    echo "run.sh: no stage $stage; there are $stages" >&2
    exit 2
    ;;
esac
