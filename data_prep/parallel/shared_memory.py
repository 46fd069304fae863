"""Passes objects to other processes through memory that both map: the buffers of Arrow don't go through a pipe."""

import mmap
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ALIGNMENT: Final = 64
"""Alignment of a buffer in bytes, as Arrow recommends."""


class SharedMemory:
    """A file in memory that other processes of this user can open; freed once neither an owner nor a map is left."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("codevision")
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")

    def __del__(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedObject:
    """A pickled object whose large buffers lie in a file."""

    pickled: bytes
    file: Path
    spans: tuple[tuple[int, int], ...]
    """Start and end of each buffer in the file, in bytes."""


def pack(value: object, file: Path) -> PackedObject:
    """Pickle an object, and append its buffers to `file`."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    spans = []
    with file.open("ab") as out:
        for buffer in buffers:
            out.write(bytes(-out.tell() % _ALIGNMENT))
            start = out.tell()
            out.write(buffer.raw())
            spans.append((start, out.tell()))
    return PackedObject(pickled=pickled, file=file, spans=tuple(spans))


def unpack(packed: PackedObject) -> Any:
    """Return the object; its buffers stay in the file, which is mapped."""
    if not packed.spans:
        return pickle.loads(packed.pickled)
    with packed.file.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(packed.pickled, buffers=[whole[start:end] for start, end in packed.spans])
