"""How large are the images that a checkpoint is shown? `python -m ...picture_budget CHECKPOINT OUT PIXELS` says.

The bound stands in the checkpoint, where trainer, engine and evaluation all read it. OUT becomes a folder of links to
the checkpoint's files, with a processor config of its own.
"""

import json
import sys
from pathlib import Path
from typing import Any

from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.io.atomic_files import whole_folder

CONFIGS = ("processor_config.json", "preprocessor_config.json")
"""Where transformers looks for an image processor, in this order; the first may hold other things only."""


def limit_images(checkpoint: Path, out: Path, pixels: int) -> None:
    """Makes `out`, replacing what is there: `checkpoint`, shown images of at most `pixels` (width x height).

    Raises:
        InputError: `checkpoint` has no image processor that can be read, or shows no image as small as that; or
            `out` is the checkpoint itself, or can't be made.
    """
    if out.resolve() == checkpoint.resolve():
        raise InputError(f"{out}: is the checkpoint itself; choose another folder")
    configs = {name: _read(checkpoint / name) for name in CONFIGS if (checkpoint / name).is_file()}
    found = [config.get("image_processor", config) for config in configs.values() if _bounds(config)]
    if not found:
        raise InputError(f"{checkpoint}: not a checkpoint: no image processor in {' or '.join(CONFIGS)}")
    for processor in found:
        least = processor.pop("min_pixels", None) or processor["size"]["shortest_edge"]
        processor.pop("max_pixels", None)
        if pixels < least:
            raise InputError(f"{checkpoint}: {pixels} pixels are fewer than those of its smallest image, {least}")
        processor["size"] = {"shortest_edge": least, "longest_edge": pixels}
    with whole_folder(out, force=True) as draft:
        for path in checkpoint.iterdir():
            if path.name in configs:
                (draft / path.name).write_text(json.dumps(configs[path.name], indent=2) + "\n", encoding="utf-8")
            else:
                (draft / path.name).symlink_to(path.resolve())


def _bounds(config: dict[str, Any]) -> bool:
    processor = config.get("image_processor", config)
    return "min_pixels" in processor or "shortest_edge" in processor.get("size", {})


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: isn't a JSON object")
    return config


def main() -> None:
    """Runs the command; bad input is one sentence on stderr and exit code 2."""
    try:
        if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
            raise InputError("picture_budget wants CHECKPOINT OUT PIXELS")
        limit_images(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
