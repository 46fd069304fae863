"""Lists the published schemas that can be read. To add one, write its reader and name it here."""

from typing import Final

from codevision_ext.errors import InputError
from data_prep.formats.readers import codevision_rl, sft, v_interaction, v_perception, vqa, vtbench
from data_prep.formats.readers.base import Place, Reader
from data_prep.formats.sources import Source

READERS: Final[dict[str, Reader]] = {
    reader.name: reader
    for reader in (
        codevision_rl.READER,
        sft.READER,
        sft.SHAREGPT,
        vtbench.READER,
        v_interaction.READER,
        v_perception.READER,
        *vqa.READERS,
    )
}
"""Readers by name. A file is read by the first reader whose columns it has, unless a reader is named."""


def choose(source: Source, name: str | None) -> Reader:
    """Return the reader of a file.

    Raises:
        InputError: There is no reader of that name, the file lacks a column of its schema, or no reader fits the file.
    """
    if name is not None:
        if name not in READERS:
            raise InputError(f"--source must be one of {', '.join(READERS)}; not {name!r}")
        missing = READERS[name].missing(source.columns)
        if missing and source.rows is not None:
            raise InputError(f"{source.path}: column {missing[0]} is missing, {name} has it")
        return READERS[name]
    for reader in READERS.values():
        if not reader.missing(source.columns):
            return reader
    columns = ", ".join(source.columns[:12])
    raise InputError(
        f"{source.path}: no known schema has the columns {columns}; --source names one of {', '.join(READERS)}"
    )


__all__ = ["READERS", "Place", "Reader", "choose"]
