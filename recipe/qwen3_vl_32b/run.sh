#!/usr/bin/env bash
# Qwen3-VL-32B-Thinking on several nodes of 8 GPUs; the stages are in recipe/base/stages.sh.
#     MODEL=/models/Qwen3-VL-32B-Thinking DATA=/data OUT=runs/qwen3_vl_32b bash recipe/qwen3_vl_32b/run.sh STAGE [verl settings]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen3_vl
source "$recipe/../base/stages.sh"
