#!/usr/bin/env bash
# Two steps of GRPO with a tiny model of each family on one GPU; prints the cost as one JSON object on stdout.
#     [OUT=runs/gpu_smoke] [ROLLOUT=sglang] bash recipe/gpu_smoke/run.sh [verl settings]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$recipe/../.."
OUT=$(realpath -m "${OUT:-runs/gpu_smoke}")
rollout=${ROLLOUT:-}
for engine in sglang vllm; do
  [ -n "$rollout" ] || ! python -c "import importlib.metadata as m; m.version('$engine')" 2>/dev/null || rollout=$engine
done
if [ -z "$rollout" ]; then
  echo "run.sh: neither sglang nor vllm is installed, and verl 0.9.1 has no other engine for multi-turn rollouts" >&2
  exit 2
fi
nvidia-smi --query-gpu=name --format=csv,noheader >/dev/null || { echo "run.sh: there is no GPU here" >&2; exit 2; }

rm -rf "$OUT"
mkdir -p "$OUT"
python -m data_prep glyphs --parts rl --rows 16 --test-items 1 --out "$OUT/data" >&2
for family in qwen2_5_vl qwen3_vl; do
  run=$OUT/$family
  mkdir -p "$run"
  codevision tiny-model --family "$family" --out "$run/model" >&2
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --id=0 --loop-ms=500 >"$run/gpu_mib" &
  watch=$!
  trap 'kill "$watch"' EXIT
  VERL_FILE_LOGGER_PATH=$run/metrics.jsonl python -m verl.trainer.main_ppo --config-path "$recipe" --config-name grpo \
    rollout="$rollout" actor_rollout_ref.model.path="$run/model" \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$PWD/recipe/base/tool.yaml" \
    data.train_files="$OUT/data/train.parquet" data.val_files="$OUT/data/val.parquet" \
    trainer.default_local_dir="$run/rl" "$@" >&2
  kill "$watch"
  trap - EXIT
done
exec python "$(dirname "${BASH_SOURCE[0]}")/../../benchmarks/step_costs.py" "$rollout" "$OUT/qwen2_5_vl" "$OUT/qwen3_vl"
