"""Scores records again under another reward, as a stream."""

from collections.abc import Collection, Sequence
from math import fsum
from pathlib import Path

from pydantic_core import from_json, to_json

from codevision_ext.errors import InputError
from codevision_ext.experiments.rescore.read_groups import WINDOW, RecordLine, read_groups
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import RewardSettings


def rescore(source: Path, out: Path, settings: RewardSettings, window: int = WINDOW) -> int:
    """Writes the records of `source` to `out`, in order, with new `reward` and `terms`, and returns their number.

    A line of `source` is a JSON object: a `records.Record`, or only the fields that the preset reads. All records of a
    group must be within `window` lines. An invalid rollout gets `reward: null` and no terms. `out` is replaced.

    Raises:
        InputError: a file can't be opened, or a line can't be scored; file, line and field are named, and the records
            before it are written.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out}: is the file to read; name another one to write")
    rubric, count = Rubric(settings), 0
    try:
        file = out.open("wb")
    except OSError as error:
        raise InputError(f"{out}: can't be written: {error.strerror}") from error
    with file:
        waiting: dict[int, bytes] = {}
        write = _Writer(rubric)
        for group in read_groups(source, settings.preset, window):
            raws = iter(zip(*score_group(group, rubric, source).values(), strict=True))
            for line in group:
                waiting[line.number] = write(line.content, next(raws) if line.rollout.observed.valid else None)
            while count + 1 in waiting:
                count += 1
                file.write(waiting.pop(count))
    return count


class _Writer:
    """Appends reward and terms to the fields of a line, which stay unchanged byte for byte."""

    def __init__(self, rubric: Rubric) -> None:
        self._weights = list(rubric.weights.items())
        self._known: list[dict[float, tuple[float, bytes]]] = [{} for _ in self._weights]

    def __call__(self, content: bytes, raws: Sequence[float] | None) -> bytes:
        """Returns the line with the reward for these raw values; None for an invalid rollout."""
        reward, terms = b"null", []
        if raws is not None:
            scored = [self._term(index, raw) for index, raw in enumerate(raws)]
            reward, terms = b"%r" % fsum(value for value, _ in scored), [text for _, text in scored]
        if b'"reward"' in content or b'"terms"' in content:
            fields = from_json(content)
            content = to_json(
                {n: v for n, v in fields.items() if n not in ("reward", "terms")}, inf_nan_mode="constants"
            )
        return b'%s,"reward":%s,"terms":{%s}}\n' % (content.removesuffix(b"}"), reward, b",".join(terms))

    def _term(self, index: int, raw: float) -> tuple[float, bytes]:
        """Returns contribution and JSON text of a term; cached, because most raw values repeat."""
        known = self._known[index]
        if raw not in known:
            if len(known) > 1000:
                known.clear()
            name, weight = self._weights[index]
            value = raw * weight
            text = b'"%s":{"raw":%r,"weight":%r,"contribution":%r}' % (name.encode(), raw, weight, value)
            known[raw] = (value, text)
        return known[raw]


def score_group(
    group: Sequence[RecordLine], rubric: Rubric, source: Path, needed: Collection[str] = ()
) -> dict[str, list[float]]:
    """Returns `Rubric.measure` for the lines of one group.

    Raises:
        InputError: as `Rubric.measure`; names file and line.
    """
    try:
        return rubric.measure([line.rollout for line in group], needed)
    except InputError:
        for line in group:
            try:
                rubric.measure([line.rollout], needed)
            except InputError as error:
                raise InputError(f"{source}, line {line.number}: field {error}") from None
        raise
