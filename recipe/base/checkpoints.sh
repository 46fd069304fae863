# Functions that find verl's checkpoints; the recipes source this file.

last() { # FOLDER: prints the folder with the weights of the last saved step, in the format of transformers
  local step
  step=$1/global_step_$(<"$1/latest_checkpointed_iteration.txt")
  if [ -d "$step/actor" ]; then echo "$step/actor/huggingface"; else echo "$step/huggingface"; fi
}
restore_last_step() { # FOLDER: writes verl's file of the last step again if a full disk or a kill left it empty; verl can't start then
  local note=$1/latest_checkpointed_iteration.txt
  if [ -f "$note" ] && [ ! -s "$note" ]; then
    find "$1" -maxdepth 1 -name 'global_step_*' | sed 's/.*_//' | sort -n | tail -n 1 >"$note"
    [ -s "$note" ] || rm "$note"
  fi
}
