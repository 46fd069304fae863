"""Limits the size of the images that a checkpoint sees.

    python -m codevision_ext.models.max_pixels CHECKPOINT OUT PIXELS

The limit is stored in the checkpoint's processor config, which trainer, engine and evaluation all read. OUT becomes a
folder with links to the checkpoint's files and its own processor config.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.io.atomic_files import whole_folder
from codevision_ext.io.json_codec import read_json

CONFIGS = ("processor_config.json", "preprocessor_config.json")
"""Files in which transformers looks for an image processor, in this order; the first file may have none."""


def limit_images(checkpoint: Path, out: Path, pixels: int) -> None:
    """Writes `out`, a copy of `checkpoint` that sees images of at most `pixels` (width x height); replaces `out`.

    Raises:
        InputError: `checkpoint` has no readable image processor, or its smallest image is larger than `pixels`; or
            `out` is the checkpoint itself, or can't be written.
    """
    if out.resolve() == checkpoint.resolve():
        raise InputError(f"{out}: is the checkpoint itself; choose another folder")
    configs = {name: read_json(checkpoint / name) for name in CONFIGS if (checkpoint / name).is_file()}
    processors = _processors(configs)
    if not processors:
        raise InputError(f"{checkpoint}: not a checkpoint: no image processor in {' or '.join(CONFIGS)}")
    for processor in processors:
        least = processor.pop("min_pixels", None) or processor["size"]["shortest_edge"]
        processor.pop("max_pixels", None)
        if pixels < least:
            raise InputError(f"{checkpoint}: {pixels} pixels are fewer than the {least} of its smallest image")
        processor["size"] = {"shortest_edge": least, "longest_edge": pixels}
    with whole_folder(out, force=True) as draft:
        for path in checkpoint.iterdir():
            if path.name in configs:
                (draft / path.name).write_text(json.dumps(configs[path.name], indent=2) + "\n", encoding="utf-8")
            else:
                (draft / path.name).symlink_to(path.resolve())


def image_bounds(checkpoint: Path) -> tuple[int, int] | None:
    """Returns the minimum and the maximum pixels of an image as the checkpoint sees it; None if no config has them.

    Raises:
        InputError: a config of the image processor can't be read.
    """
    configs = {name: read_json(checkpoint / name) for name in CONFIGS if (checkpoint / name).is_file()}
    for processor in _processors(configs):
        size = processor.get("size") or {}
        least = processor.get("min_pixels") or size.get("shortest_edge")
        most = processor.get("max_pixels") or size.get("longest_edge")
        if isinstance(least, int) and isinstance(most, int):
            return least, most
    return None


def _processors(configs: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the configs that limit the size of an image."""
    processors = [config.get("image_processor", config) for config in configs.values()]
    return [each for each in processors if "min_pixels" in each or "shortest_edge" in each.get("size", {})]


def main() -> None:
    """Runs the command; an error is one sentence on stderr and exit code 2."""
    try:
        if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
            raise InputError("usage: picture_budget CHECKPOINT OUT PIXELS")
        limit_images(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
