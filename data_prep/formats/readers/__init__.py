"""Lists the readers of published schemas. To add a schema, write its reader and name the reader here."""

from typing import Final

from codevision_ext.errors import InputError
from data_prep.formats.readers import codevision_rl, sft, v_interaction, v_perception, vqa, vtbench
from data_prep.formats.readers.base import Place, Reader
from data_prep.formats.sources import Source, layout_advice, with_all_columns

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
        InputError: There is no reader of that name, the file lacks a column of the schema or a column that `--map`
            names, no reader has the field of a mapped column, or no reader fits the file.
    """
    if name is not None and name not in READERS:
        raise InputError(f"--source must be one of {', '.join(READERS)}; not {name!r}")
    columns_read = {column for reader in READERS.values() for group in reader.columns for column in group}
    for each in source.names.keys() - columns_read:
        if not vqa.is_field(each):
            words = "a table has image, question, answer, choices, hint, transform, bbox, source, split, id .."
            raise InputError(f"--map {each}={source.names[each]}: no reader has a field {each}; {words}")
    candidates = list(READERS.values()) if name is None else [READERS[name]]
    for complete in (False, True):
        known = with_all_columns(source) if complete else source  # reads a file of JSON to its end, so only if it must
        fitting = [reader for reader in candidates if not reader.missing(known.fields)]
        absent = [column for column in known.names.values() if column not in known.columns]
        if fitting and not absent:
            return fitting[0]
    if absent:
        raise InputError(f"{source.path}: --map names the column {absent[0]}; it has {', '.join(known.columns[:12])}")
    lacking = [word for word, group in vqa.TABLE.items() if not known.fields & set(group)]
    if len(lacking) == len(vqa.TABLE) and (advice := layout_advice(known)):
        raise InputError(f"{source.path}: {advice}")
    if name is not None:
        raise InputError(f"{source.path}: column {candidates[0].missing(known.fields)[0]} of schema {name} is missing")
    columns = ", ".join(known.columns[:12])
    maps = ",".join(f"{word}=COLUMN" for word in lacking)
    raise InputError(
        f"{source.path}: no known schema has the columns {columns}; "
        + (f"a table needs a column for {' and '.join(lacking)}, --map {maps} names it; " if lacking else "")
        + f"--source names one of {', '.join(READERS)}"
    )


__all__ = ["READERS", "Place", "Reader", "choose"]
