"""Changes of colour get the names of what was done; what has no name, or can't be seen, gets none."""

from collections import Counter

import numpy as np
import pytest
from gallery_colours import BLIND, KNOWN, Truth, carried_out, shown, verdict
from PIL import Image

from codevision_ext.sandbox.provenance.colours import colour_ops
from codevision_ext.sandbox.provenance.tone_curves import VISIBLE
from codevision_ext.task.image_ops import OPTIONAL_OPS

Gallery = dict[str, tuple[Truth, str]]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("gallery", [KNOWN, BLIND], ids=["known", "blind"])
def test_plain_operations_are_named_and_at_most_1_percent_of_names_are_wrong(gallery: Gallery) -> None:
    tried, wrong, plain = 0, [], Counter[str]()
    images = list(shown().items())
    for at, (name, (truth, code)) in enumerate(gallery.items()):
        for which, image in (images[at % len(images)], images[(at + 2) % len(images)]):
            after = carried_out(code, image)
            ops = colour_ops(pixels(image), pixels(after), exact=True)
            assert set(ops) <= OPTIONAL_OPS, (name, which, ops)
            tried += 1
            outcome = verdict(ops, truth, image)
            if outcome == "wrong":
                wrong.append((name, which, ops))
            change = np.abs(pixels(after).astype(int) - pixels(image)).max(axis=2)
            if len(truth) == 1 and np.mean(change >= VISIBLE) >= 0.01:
                plain[outcome] += 1
    assert len(wrong) <= 0.01 * tried, wrong
    assert plain["right"] >= 0.9 * plain.total(), plain


@pytest.mark.parametrize("name", [name for name, (truth, _) in {**KNOWN, **BLIND}.items() if not truth])
def test_what_has_no_name_gets_none_when_it_was_resampled_as_well(name: str) -> None:
    for which, image in shown().items():
        _, code = {**KNOWN, **BLIND}[name]
        width, height = image.size
        for method in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC):
            zoomed = carried_out(code, image).resize((2 * width, 2 * height), method)
            after = zoomed.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            assert colour_ops(pixels(image), pixels(after), exact=False) == (), (which, method)


def test_the_same_images_have_nothing_between_them_and_neither_have_tiny_ones() -> None:
    image = pixels(shown()["photo"])
    assert colour_ops(image, image, exact=True) == ()
    assert colour_ops(image[:10, :10], 255 - image[:10, :10], exact=True) == ()


def test_images_of_two_shapes_are_refused() -> None:
    image = pixels(shown()["photo"])
    with pytest.raises(ValueError, match="equal shape"):
        colour_ops(image, image[1:], exact=True)
