#!/usr/bin/env bash
# LoRA of a 7B SFT checkpoint on one GPU of 80 GB; the stages are in recipe/base/stages.sh. Available: rl, val, smoke.
#     SFT=/models/CodeVision-7B-SFT DATA=/data OUT=runs/lora_80gb bash recipe/lora_80gb/run.sh STAGE [verl settings]
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
family=qwen2_5_vl rl_pixels=$((2048 * 28 * 28))
source "$recipe/../base/stages.sh"
