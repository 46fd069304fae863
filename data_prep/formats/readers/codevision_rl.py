"""Reads rows of CodeVision-RL, of MVToolBench (which has the same columns), and the RL rows that `convert` writes."""

from collections.abc import Iterator, Mapping
from typing import Any

from codevision_ext.types import BOX_FRAMES
from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Row

SOURCE = "CodeVision-RL"


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    extra = fields.mapping(record.get("extra_info"), "extra_info")
    images, paths = fields.images(fields.require(record, "images"), place.images)
    system, prompt = _prompt(fields.parse_json(fields.require(record, "prompt"), "prompt"))
    rule = fields.mapping(record.get("reward_model"), "reward_model")
    truth = rule.get("ground_truth")
    truth = extra.get("answer") if truth is None else truth
    applied, renamed = fields.applied(extra.get("transform"), "extra_info.transform")
    name = "bbox" if extra.get("bbox") is not None else "bbox_2d"
    box, was_nan = fields.box(extra.get(name), f"extra_info.{name}")
    frame = extra.get("box_frame") or "input"
    if frame not in BOX_FRAMES:
        raise RowError(Reason.BAD_BOX, "extra_info.box_frame", f"must be {', '.join(BOX_FRAMES)}, not {frame!r}")
    index = extra.get("index")
    question = extra.get("question") or prompt
    changes = [*(extra.get("changes") or ()), *(["op_renamed"] if renamed else []), *(["box_nan"] if was_nan else [])]
    yield Row(
        images=images,
        question=fields.text(question, "extra_info.question"),
        answers=fields.answers(truth, "reward_model.ground_truth"),
        source=record.get("data_source") or extra.get("dataset_name") or SOURCE,
        split=extra.get("split") or "train",
        index=index if type(index) is int and abs(index) < 1 << 63 else place.row,
        applied=applied,
        box=box,
        box_frame=frame,
        column=None if extra.get("column") is None else fields.text(extra["column"], "extra_info.column"),
        ability=record.get("ability") or "reading",
        system=system,
        prompt=prompt,
        paths=paths,
        licence=extra.get("licence") or "",
        changes=tuple(dict.fromkeys(changes)),
        picture_id=extra.get("picture_id") or "",
        benefit=fields.read_numbers(extra.get("benefit"), "extra_info.benefit"),
    )


def _prompt(value: Any) -> tuple[str, str]:
    """Return the system message ("" for none) and the user message of a prompt: a list of messages, or a text."""
    if isinstance(value, str):
        return "", value
    try:
        turns = [(message["role"], fields.text(message["content"], "prompt")) for message in value]
    except (TypeError, KeyError) as error:
        raise RowError(Reason.BAD_TYPE, "prompt", "must be a list of messages with role and content") from error
    roles = [role for role, _ in turns]
    if roles not in (["user"], ["system", "user"]):
        message = f"must be a user message, perhaps behind a system message, not {roles}"
        raise RowError(Reason.BAD_TURNS, "prompt", message)
    return turns[0][1] if len(turns) == 2 else "", turns[-1][1]


READER = Reader(
    name="codevision-rl",
    columns=(("prompt",), ("images",), ("reward_model",), ("extra_info",)),
    read=_read,
    licence="CC-BY-SA-4.0",
)
