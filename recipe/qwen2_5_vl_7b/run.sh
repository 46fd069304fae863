#!/usr/bin/env bash
# Qwen2.5-VL-7B on one node of 8 GPUs; the stages are in recipe/base/stages.sh.
#     MODEL=/models/Qwen2.5-VL-7B-Instruct DATA=/data OUT=runs/qwen2_5_vl_7b bash recipe/qwen2_5_vl_7b/run.sh STAGE [verl settings]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen2_5_vl
source "$recipe/../base/stages.sh"
