"""Exports a checkpoint as a folder that plain transformers, vLLM and SGLang load.

DIR/config.json, *.safetensors, tokenizer and processor files    as in the checkpoint
DIR/chat_template.jinja, generation_config.json                  as in the checkpoint; written if it lacks them
DIR/codevision.json, tools.json                                  format of the training, and the tool's schema
DIR/README.md                                                    model card (`card`)
"""

import json
import shutil
from pathlib import Path
from typing import Final

from codevision_ext.config import Settings, tool_schemas
from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import whole_folder
from codevision_ext.io.inputs import require_checkpoint
from codevision_ext.models.checkpoint_settings import checkpoint_settings
from codevision_ext.rollout.trained_format import FILE, write_trained_format
from codevision_ext.serve.card import Card, model_card

LATEST: Final = "latest_checkpointed_iteration.txt"
"""File in which verl writes the number of its last step."""
LEFT_OUT: Final = frozenset({"README.md", ".gitattributes", "training_args.bin"})
"""Files of a checkpoint that describe something else than its weights."""


def export_checkpoint(checkpoint: Path, out: Path, *, trained: Path | None, card: Card | None, force: bool) -> Path:
    """Writes `out` whole or not at all, and returns the folder that the weights come from; nothing is written there.

    Args:
        checkpoint: Folder in Hugging Face's layout, or one of verl: of a training, of a step, or of its actor.
        out: Folder to write.
        trained: Folder with the codevision.json; None: the checkpoint's own.
        card: Content of the model card; None: no card.
        force: Whether to replace what is in `out`.

    Raises:
        InputError: the folder isn't a checkpoint, its weights are missing or damaged, nothing says how it was trained,
            `out` overlaps with it or can't be written, or results.json is of another checkpoint.
    """
    from codevision_ext.models.checkpoint import renderer_of, weight_shapes  # noqa: PLC0415  it imports transformers

    source = weights_folder(checkpoint)
    _check_apart(source, out)
    weight_shapes(source)
    renderer = renderer_of(source)
    own = checkpoint_settings(Settings(), trained or source)
    if own.trained is None:
        raise InputError(f"{trained or source}: there is no {FILE}; --trained names a folder that has the file")
    readme = model_card(card, source, out.name) if card else None
    with whole_folder(out, force=force) as draft:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name not in LEFT_OUT:
                shutil.copyfile(path, draft / path.name)
        write_trained_format(draft, own.trained)
        _write_json(draft / "tools.json", tool_schemas(own.settings))
        template = draft / "chat_template.jinja"
        if not template.exists():
            template.write_text(str(renderer.processor.chat_template), encoding="utf-8")
        if not (draft / "generation_config.json").exists():
            _write_json(draft / "generation_config.json", _generation(renderer.end_ids))
        if readme is not None:
            (draft / "README.md").write_text(readme, encoding="utf-8")
    return source


def weights_folder(checkpoint: Path) -> Path:
    """Returns the folder with the weights in Hugging Face's layout.

    Raises:
        InputError: there is none; a folder with verl's own shards only is named with the command that merges them.
    """
    folder = checkpoint
    if (folder / LATEST).is_file():
        step = (folder / LATEST).read_text(encoding="utf-8").strip()
        folder = folder / f"global_step_{step}"
    for name in ("actor", "huggingface"):
        if (folder / name).is_dir():
            folder = folder / name
    if not (folder / "config.json").is_file() and folder != checkpoint:
        raise InputError(f"{checkpoint}: not a checkpoint: {folder} has no config.json")
    require_checkpoint(folder)
    if not any(folder.glob("*.safetensors")) and any(folder.parent.glob("model_world_size_*.pt")):
        merge = "python -m verl.model_merger merge --backend fsdp"
        raise InputError(
            f"{folder.parent}: holds verl's shards only; export the FOLDER that this command writes: {merge} "
            f"--local_dir {folder.parent} --target_dir FOLDER"
        )
    return folder


def _check_apart(source: Path, out: Path) -> None:
    inside, outside = source.resolve(), out.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        raise InputError(f"--out {out} overlaps with the checkpoint {source}; choose another folder")


def _generation(end_ids: tuple[int, ...]) -> dict[str, object]:
    """Returns a generation config that samples as rollouts do: from the whole distribution, up to the end of a turn."""
    sampling = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    return {"eos_token_id": list(end_ids), "pad_token_id": end_ids[-1], **sampling}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
