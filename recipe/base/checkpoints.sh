# Where verl left its checkpoints; sourced by the recipes.

last() { # FOLDER: the weights of the last step that verl saved there, as transformers reads them
  local step
  step=$1/global_step_$(<"$1/latest_checkpointed_iteration.txt")
  if [ -d "$step/actor" ]; then echo "$step/actor/huggingface"; else echo "$step/huggingface"; fi
}
mend() { # FOLDER: verl can't start from a note of its last step that a full disk or a kill left empty
  local note=$1/latest_checkpointed_iteration.txt
  if [ -f "$note" ] && [ ! -s "$note" ]; then
    find "$1" -maxdepth 1 -name 'global_step_*' | sed 's/.*_//' | sort -n | tail -n 1 >"$note"
    [ -s "$note" ] || rm "$note"
  fi
}
