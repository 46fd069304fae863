"""All galleries, and what provenance makes of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gallery import KNOWN, Snippet, Truth, pictures
from gallery_held_out import HELD_OUT, SECOND
from gallery_strangers import FIRST, LATER, more_pictures
from gallery_talkative import THIRD, repeating_pictures
from gallery_workshop import FOURTH, workshop_pictures
from PIL import Image

from codevision_ext.geometry import iou
from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import Provenance, trace
from codevision_ext.types import ExecStatus

GALLERIES: dict[str, tuple[Mapping[str, Snippet], Mapping[str, Image.Image]]] = {
    "own": (KNOWN | HELD_OUT | SECOND, pictures()),
    "strangers": (FIRST, pictures() | more_pictures()),
    "later": (LATER, pictures() | more_pictures()),
    "third": (THIRD, pictures() | repeating_pictures()),
    "fourth": (FOURTH, workshop_pictures()),
}
"""Snippets and what they are tried on, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was claimed of one snippet on one picture, and what is true."""

    snippet: str
    picture: str
    truth: Truth | None
    seen: Provenance
    right_parent: bool

    @property
    def right(self) -> bool:
        if self.truth is None or self.seen.net is None or self.seen.box is None:
            return False
        net, region = self.truth
        return self.right_parent and self.seen.net is net and iou(self.seen.box, region) > 0.95

    @property
    def wrong(self) -> bool:
        return self.seen.net is not None and not self.right


def verdicts(
    sandbox: Sandbox,
    pairs: Iterable[tuple[str, str]],
    snippets: Mapping[str, Snippet],
    pictures: Mapping[str, Image.Image],
) -> Iterator[Verdict]:
    """Each snippet on its picture, by their names; where it takes several, on those that follow as well."""
    names = list(pictures)
    for name, shown in pairs:
        snippet, at = snippets[name], names.index(shown)
        images = tuple(pictures[other] for other in (names[at:] + names[:at])[: snippet.pictures])
        request = ExecRequest(code=snippet.code, images=images)
        result = sandbox.run(request)
        assert result.status is ExecStatus.OK, f"{name} on {shown}: {result.detail}"
        seen, truth = trace(sandbox, request, result), snippet.truth(images[snippet.parent])
        right_parent = seen.parent == snippet.parent
        yield Verdict(snippet=name, picture=shown, truth=truth, seen=seen, right_parent=right_parent)
