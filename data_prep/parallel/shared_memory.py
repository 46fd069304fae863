"""How do images reach another process? In memory that both map: no byte of them goes through a pipe."""

import mmap
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ALIGNMENT: Final = 64
"""Of a buffer, bytes: what Arrow recommends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """An object on its way; its large buffers, such as Arrow's, lie in a file."""

    pickled: bytes
    file: Path
    spans: tuple[tuple[int, int], ...]
    """First byte of each buffer in the file, and the one behind its last."""


@contextmanager
def shared_memory() -> Iterator[Path]:
    """A file in memory that any process of this user can open; the memory is free when nobody maps it any more."""
    descriptor = os.memfd_create("codevision")
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def pack(thing: object, file: Path) -> Parcel:
    """The object, its buffers written behind what is in `file`."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    spans = []
    with file.open("r+b", buffering=0) as out:
        end = out.seek(0, os.SEEK_END)
        for buffer in buffers:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            with buffer.raw() as content:
                end = start + len(content)
                out.truncate(end)
                out.seek(start)
                while content:
                    content = content[out.write(content) :]
            spans.append((start, end))
    return Parcel(pickled=pickled, file=file, spans=tuple(spans))


def unpack(parcel: Parcel) -> Any:
    """The object; its buffers stay where they are."""
    if not parcel.spans:
        return pickle.loads(parcel.pickled)
    with parcel.file.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(parcel.pickled, buffers=[whole[start:end] for start, end in parcel.spans])
