"""Lists all galleries and judges what provenance claims of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gallery import KNOWN, Snippet, Truth, images
from gallery_held_out import HELD_OUT, SECOND
from gallery_images import more_images, repeating_images, workshop_images
from gallery_later import LATER
from gallery_strangers import FIRST
from gallery_talkative import THIRD
from gallery_workshop import FOURTH
from PIL import Image

from codevision_ext.geometry import iou
from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import Provenance, trace
from codevision_ext.types import ExecStatus
from data_prep.tasks.real_images import REAL_IMAGES, image_path


def photographs() -> dict[str, Image.Image]:
    """Read the images of the suite `real`; the scanned page is doubled, because snippets crop 300 x 240 pixels."""
    images = {name: Image.open(image_path(entry)).convert("RGB") for name, entry in REAL_IMAGES.items()}
    return {name: image if image.height >= 300 else image.resize((768, 382)) for name, image in images.items()}


GALLERIES: dict[str, tuple[Mapping[str, Snippet], Mapping[str, Image.Image]]] = {
    "own": (KNOWN | HELD_OUT | SECOND, images()),
    "strangers": (FIRST, images() | more_images()),
    "later": (LATER, images() | more_images()),
    "third": (THIRD, images() | repeating_images()),
    "fourth": (FOURTH, workshop_images()),
    "real": (LATER, photographs()),
}
"""Snippets and the images that they are tried on, by name of the gallery."""
MISSED, WRONG = 0.02, 0.01
"""Largest share of the calls with an answer that may not be right, and of all calls that may be wrong, over all
galleries together: the targets in docs/reward.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What provenance claims of one snippet on one image, and the truth."""

    snippet: str
    image: str
    truth: Truth | None
    claim: Provenance
    right_parent: bool

    @property
    def right(self) -> bool:
        """True where parent, orientation and region (IoU > 0.95) are as they should be."""
        if self.truth is None or self.claim.net is None or self.claim.box is None:
            return False
        net, region = self.truth
        return self.right_parent and self.claim.net is net and iou(self.claim.box, region) > 0.95

    @property
    def wrong(self) -> bool:
        """True where something is claimed that isn't right."""
        return self.claim.net is not None and not self.right


def verdicts(
    sandbox: Sandbox,
    pairs: Iterable[tuple[str, str]],
    snippets: Mapping[str, Snippet],
    gallery_images: Mapping[str, Image.Image],
) -> Iterator[Verdict]:
    """Yield the verdict of each snippet on its image, by their names; some snippets take the images that follow too."""
    names = list(gallery_images)
    for name, first in pairs:
        snippet, at = snippets[name], names.index(first)
        images = tuple(gallery_images[other] for other in (names[at:] + names[:at])[: snippet.images])
        request = ExecRequest(code=snippet.code, images=images)
        result = sandbox.run(request)
        assert result.status is ExecStatus.OK, f"{name} on {first}: {result.detail}"
        claim, truth = trace(sandbox, request, result), snippet.truth(images[snippet.parent])
        right_parent = claim.parent == snippet.parent
        yield Verdict(snippet=name, image=first, truth=truth, claim=claim, right_parent=right_parent)
