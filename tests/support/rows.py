"""Rows of the transformed benchmark for tests: one a column."""

import io
import random

from PIL import Image

from codevision_ext.evaluate.metrics import COLUMNS
from data_prep.formats.schema import Row


def reading_rows() -> list[Row]:
    """Six rows with a small image of noise each."""
    rows = []
    for at, column in enumerate(COLUMNS):
        file = io.BytesIO()
        Image.frombytes("RGB", (56, 56), random.Random(at).randbytes(56 * 56 * 3)).save(file, "PNG")
        rows.append(
            Row(
                images=(file.getvalue(),),
                question="What number is written?",
                answers=("7",),
                source="glyphs",
                split="test",
                index=at,
                size=(56, 56),
                column=column,
            )
        )
    return rows
