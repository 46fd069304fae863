"""Changes of colour get the names of what was done; what has no name, or can't be seen, gets none."""

from collections import Counter

import numpy as np
import pytest
from gallery_colours import BLIND, KNOWN, Truth, carried_out, shown, verdict
from PIL import Image

from codevision_ext.ops import OPTIONAL_OPS
from codevision_ext.sandbox.provenance.colours import VISIBLE, colour_ops

Gallery = dict[str, tuple[Truth, str]]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("gallery", [KNOWN, BLIND], ids=["known", "blind"])
def test_plain_operations_are_named_and_at_most_1_percent_of_names_are_wrong(gallery: Gallery) -> None:
    tried, wrong, plain = 0, [], Counter[str]()
    pictures = list(shown().items())
    for at, (name, (truth, code)) in enumerate(gallery.items()):
        for which, picture in (pictures[at % len(pictures)], pictures[(at + 2) % len(pictures)]):
            made = carried_out(code, picture)
            found = colour_ops(pixels(picture), pixels(made), exact=True)
            assert set(found) <= OPTIONAL_OPS, (name, which, found)
            tried += 1
            outcome = verdict(found, truth, picture)
            if outcome == "wrong":
                wrong.append((name, which, found))
            change = np.abs(pixels(made).astype(int) - pixels(picture)).max(axis=2)
            if len(truth) == 1 and np.mean(change >= VISIBLE) >= 0.01:
                plain[outcome] += 1
    assert len(wrong) <= 0.01 * tried, wrong
    assert plain["right"] >= 0.9 * plain.total(), plain


@pytest.mark.parametrize("name", [name for name, (truth, _) in {**KNOWN, **BLIND}.items() if not truth])
def test_what_has_no_name_gets_none_when_it_was_resampled_as_well(name: str) -> None:
    for which, picture in shown().items():
        _, code = {**KNOWN, **BLIND}[name]
        width, height = picture.size
        for method in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC):
            zoomed = carried_out(code, picture).resize((2 * width, 2 * height), method)
            made = zoomed.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            assert colour_ops(pixels(picture), pixels(made), exact=False) == (), (which, method)


def test_the_same_pictures_have_nothing_between_them_and_neither_have_tiny_ones() -> None:
    picture = pixels(shown()["photo"])
    assert colour_ops(picture, picture, exact=True) == ()
    assert colour_ops(picture[:10, :10], 255 - picture[:10, :10], exact=True) == ()


def test_pictures_of_two_shapes_are_refused() -> None:
    picture = pixels(shown()["photo"])
    with pytest.raises(ValueError, match="one shape"):
        colour_ops(picture, picture[1:], exact=True)
