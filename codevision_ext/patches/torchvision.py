"""Patch of torchvision: lets its CUDA build import next to a torch without CUDA.

There is no CPU wheel of torchvision for every torch. The CUDA wheel can't load its compiled operators next to a torch
without CUDA, and then fails while it registers Python versions of two of them, because their schemas don't exist.
transformers and SGLang use only those functions of torchvision that are plain torch, so it is enough to define the two
schemas. Where torch has CUDA, or torchvision brings its own operators, nothing is done.

`python -m codevision_ext.patches.torchvision` writes a one-line `.pth` file, which also brings the patch to the
subprocesses of the engines.

Drop when there is a CPU wheel of torchvision for the pinned torch.
"""

import importlib.abc
import sys
import sysconfig
from pathlib import Path

PTH = "codevision_ext_torchvision_cpu.pth"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _DefineSchemasFirst(importlib.abc.MetaPathFinder):
    """Defines the schemas when torchvision is about to be imported; leaves the import to the next finder."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch  # noqa: PLC0415  # only a process that imports torchvision pays for torch

        if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch has no annotations
            for schema in SCHEMAS:
                library.define(schema)  # type: ignore[no-untyped-call]  # torch has no annotations
            vars(torch)["_codevision_torchvision_library"] = library  # a Library undefines its schemas when collected


def arm() -> None:
    """Installs the import hook in this process; imports nothing."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _DefineSchemasFirst) for f in sys.meta_path):
        sys.meta_path.insert(0, _DefineSchemasFirst())


def main() -> None:
    """Writes the `.pth` file into this interpreter's site-packages where torch is a CPU build."""
    import torch  # noqa: PLC0415

    pth = Path(sysconfig.get_paths()["purelib"]) / PTH
    if torch.version.cuda is None:
        pth.write_text("import codevision_ext.patches.torchvision as t; t.arm()\n")
    else:
        pth.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
