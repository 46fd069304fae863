#!/usr/bin/env bash
# Qwen3-VL-8B-Thinking on one node of 8 GPUs; the stages are in recipe/base/stages.sh.
#     MODEL=/models/Qwen3-VL-8B-Thinking DATA=/data OUT=runs/qwen3_vl_8b bash recipe/qwen3_vl_8b/run.sh STAGE [verl settings]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen3_vl
source "$recipe/../base/stages.sh"
