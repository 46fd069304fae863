"""MVToolBench: small words in photos; each image was rotated or flipped, so a model must undo that and crop."""

from codevision_ext.evaluate.metrics import TRANSFORMED
from codevision_ext.evaluate.suites.base import Row, Suite
from codevision_ext.evaluate.suites.transformed import own_rule
from codevision_ext.task.image_ops import CROP, read_applied

_COLUMN_OF = dict(
    zip(("rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "flip_vertical"), TRANSFORMED, strict=True)
)


def _column(row: Row, _: Row) -> str | None:
    """Returns the column of the rotation or flip that was applied; None if there isn't exactly one."""
    ops = [op for op in read_applied(row["extra_info"].get("transform")) if op != CROP]
    return _COLUMN_OF.get(ops[0]) if len(ops) == 1 else None


SUITE = Suite(
    name="mvtoolbench", about="by what was applied: three rotations, two flips", column=_column, scorer_of=own_rule
)
