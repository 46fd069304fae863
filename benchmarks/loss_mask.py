"""Prints how many tokens SFT learns, with masked messages and without: `loss_mask.py MODEL SFT.parquet`.

MODEL is a checkpoint folder, for its tokenizer and chat template. The counts are one JSON object.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.models.checkpoint import renderer_of
from codevision_ext.task.row_checks import is_trained, read_images


def token_counts(model: Path, data: Path) -> dict[str, Any]:
    """Returns the numbers of rows and of assistants' messages, and of tokens that have a loss.

    Raises:
        InputError: the model or a row can't be read.
    """
    renderer = renderer_of(model)
    counts = dict.fromkeys(("rows", "rows_with_masked_messages", "messages", "masked_messages"), 0)
    learned = {"masked": 0, "unmasked": 0}
    for row in pq.read_table(data).to_pylist():
        messages, tools = row["messages"], json.loads(row["tools"] or "[]")
        images = read_images(row["images"])
        turns = [message for message in messages if message["role"] == "assistant"]
        masked = sum(not is_trained(turn) for turn in turns)
        counts["rows"] += 1
        counts["rows_with_masked_messages"] += masked > 0
        counts["messages"] += len(turns)
        counts["masked_messages"] += masked
        bare = [{"role": message["role"], "content": message["content"]} for message in messages]
        learned["masked"] += sum(renderer.conversation(messages, tools, images).mask)
        learned["unmasked"] += sum(renderer.conversation(bare, tools, images).mask)
    return {"family": renderer.family, **counts, "trained_tokens": learned}


if __name__ == "__main__":
    try:
        if len(sys.argv) != 3:
            raise InputError("usage: loss_mask.py MODEL SFT.parquet")
        sys.stdout.write(json.dumps(token_counts(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
    except CodeVisionError as error:
        sys.exit(f"loss_mask: {error}")
