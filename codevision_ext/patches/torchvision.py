"""Patch of torchvision: makes its CUDA wheel importable with a torch without CUDA.

Some versions of torchvision have no CPU wheel. With a torch without CUDA, the CUDA wheel can't load its compiled
operators. Its import then fails where it registers Python versions of two operators whose schemas don't exist. The
patch defines the two schemas. This is enough, because transformers and SGLang use only functions of torchvision that
are plain torch. Nothing is changed if torch has CUDA or the operators exist.

`python -m codevision_ext.patches.torchvision` writes a one-line `.pth` file that applies the patch in every process of
the environment, also in subprocesses of the engines.

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
        import torch  # noqa: PLC0415  # slow to import, needed only when torchvision is imported

        if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch has no annotations
            for schema in SCHEMAS:
                library.define(schema)  # type: ignore[no-untyped-call]  # torch has no annotations
            vars(torch)["_codevision_torchvision_library"] = (
                library  # a garbage-collected Library undefines its schemas
            )


def arm() -> None:
    """Installs the import hook in this process; doesn't import torch or torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _DefineSchemasFirst) for f in sys.meta_path):
        sys.meta_path.insert(0, _DefineSchemasFirst())


def main() -> None:
    """Writes the `.pth` file into site-packages if torch is a CPU build, and removes it otherwise."""
    import torch  # noqa: PLC0415

    pth = Path(sysconfig.get_paths()["purelib"]) / PTH
    if torch.version.cuda is None:
        pth.write_text("import codevision_ext.patches.torchvision as t; t.arm()\n")
    else:
        pth.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
