# Stages of a recipe, with the trainings of trainings.sh, which names the variables; the recipe's run.sh sources this file.
declare -F grpo >/dev/null || source "$recipe/../base/trainings.sh"

case $stage in
  sft) # teaches the model to use the tool
    with_pixels "${MODEL:?the checkpoint to start from, a folder}" "$sft_pixels" model
    sft sft "$DATA/sft.parquet" "$OUT/model" "$@"
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
    begin_smoke
    tiny_model
    python -m data_prep glyphs --parts rl,sft --rows 8 --sft-rows 16 --test-items 1 --out "$DATA"
    with_pixels "$OUT/tiny" 7056 model
    sft sft "$DATA/sft.parquet" "$OUT/model" variant=smoke_sft
    with_pixels "$(last "$OUT/sft")" 7056 sft_model
    grpo "$OUT/sft_model" "$OUT/metrics.jsonl" variant=smoke "$@"
    ;;
  *)
    echo "run.sh: no stage $stage; there are $stages" >&2
    exit 2
    ;;
esac
