"""Reads conversations: SFT rows that `convert` writes, chat messages of other sets, and sharegpt items."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from codevision_ext.rollout.parsing import TOOL_NAME
from data_prep.formats import fields
from data_prep.formats.readers.base import ANSWERS, Item, Place, Reader
from data_prep.formats.schema import Demonstration
from data_prep.formats.sharegpt import LICENCE, SOURCE, from_sharegpt, infer_sample_type, tools_text
from data_prep.formats.turns import read_images, read_turns


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    messages, own = read_turns(fields.parts(record, "messages"), "messages")
    images, paths = read_images(record, own, place.images)
    metadata = fields.mapping(record.get("metadata"), "metadata")
    yield Demonstration(
        messages=tuple(messages),
        images=images,
        sample_type=record.get("sample_type") or metadata.get("sample_type") or infer_sample_type(messages),
        tools=tools_text(record.get("tools")),
        metadata=_with_answer(metadata, record, place),
        paths=paths,
        extra=fields.mapping(record.get("extra"), "extra"),
        source=record.get("source") or place.name,
        licence=record.get("licence") or "",
        changes=fields.texts(record.get("changes"), "changes"),
    )


def _read_sharegpt(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    messages, own = read_turns(fields.parts(record, "conversations"), "conversations")
    images, paths = read_images(record, own, place.images)
    item = from_sharegpt(record, images, paths, messages)
    extra = dict(item.extra) | ({} if item.source else {"source": None})  # the item gets no source when it is written
    if any(image is not None for image in own):
        extra.pop("conversations", None)
    metadata = _with_answer(item.metadata, record, place)
    source = item.source or (SOURCE if TOOL_NAME in item.tools else place.name)
    licence = item.licence or (LICENCE if source == SOURCE else "")
    yield replace(item, source=source, licence=licence, extra=extra, metadata=metadata)


def _with_answer(metadata: Mapping[str, Any], record: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Return the metadata of a task with the answer that stands in a column of its own."""
    answer = None if place.turns or metadata.get("answer") else fields.first(record, *ANSWERS)
    return metadata if answer is None else {**metadata, "answer": answer}


READER: Final = Reader(name="sft", columns=(("messages",),), read=_read, turns=True, whole_prompt=True)
SHAREGPT: Final = Reader(
    name="codevision-sft",
    columns=(("conversations",),),
    read=_read_sharegpt,
    turns=True,
    whole_prompt=True,
)
