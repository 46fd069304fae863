"""Chance of the drawing demo: drawings that know the kind of the task, but not the page.

    python benchmarks/drawing_chance.py [--rows 400] [--seed 0]

Each test page is drawn on with the right code of another test page of the same kind. The command prints the share of
these drawings that the verifier accepts, by kind, and the mean over the kinds, in percent.
"""

import argparse
import json
import sys

import numpy as np

from codevision_ext.drawing import verify
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import ToolCall
from data_prep.tasks.figures.rows import PREPARE, FigureMix, draw_task


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400, help="test pages")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pages, as of `data_prep figures`")
    options = parser.parse_args()
    mix = FigureMix(seed=options.seed)
    tasks = [draw_task(mix, "test", "test", index) for index in range(options.rows)]
    shares = {}
    with Sandbox() as sandbox:
        tool = CodeTool(sandbox)
        for kind in mix.kinds:
            same = [(page, drawing) for page, drawing, its_kind in tasks if its_kind == kind]
            right = []
            for (page, drawing), (_, other) in zip(same, same[1:] + same[:1], strict=True):
                call = ToolCall(code=PREPARE + other.code, description=kind, image_index=0)
                _, result = tool.run(ImageHistory([page.image]), call)
                right.append(verify(page.image, result.images[0], drawing.target).correct)
            shares[kind] = round(100 * float(np.mean(right)), 1)
    sys.stdout.write(json.dumps(shares | {"mean": round(float(np.mean(list(shares.values()))), 1)}) + "\n")


if __name__ == "__main__":
    main()
