"""Two drawings agree as far as their ink lies at the same places of the image."""

import numpy as np
import pytest
from drawing_scenes import SCENES
from PIL import Image, ImageDraw

from codevision_ext.drawing import agreement

IMAGE = SCENES["photo"](np.random.default_rng(3), (400, 280)).convert("RGB")


def drawn(*lines: tuple[int, int, int, int], colour: str = "red", width: int = 4) -> Image.Image:
    made = IMAGE.copy()
    for line in lines:
        ImageDraw.Draw(made).line(line, fill=colour, width=width)
    return made


LINE, OTHER = (60, 60, 340, 220), (60, 240, 340, 40)


@pytest.mark.parametrize(
    ("other", "low", "high"),
    [
        (drawn(LINE), 1, 1),
        (drawn(LINE, colour="blue", width=2), 0.98, 1),
        (drawn((62, 62, 342, 222)), 0.98, 1),
        (drawn(LINE).resize((640, 448)), 0.9, 1),
        (drawn(LINE, OTHER), 0.6, 0.85),
        (drawn(OTHER), 0, 0.15),
        (IMAGE, 0, 0),
        (Image.new("RGB", (400, 280), "white"), 0, 0.5),
    ],
)
def test_the_value_is_high_for_the_same_places_and_low_for_others(other: Image.Image, low: float, high: float) -> None:
    for pair in ((drawn(LINE), other), (other, drawn(LINE))):
        assert low <= agreement(IMAGE, *pair) <= high


def test_two_images_without_a_drawing_agree() -> None:
    assert agreement(IMAGE, IMAGE, IMAGE.resize((400, 280))) == 1
    assert agreement(IMAGE, IMAGE, IMAGE.resize((640, 448))) == 1
