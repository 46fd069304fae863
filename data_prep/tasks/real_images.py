"""Questions about real photographs and scans that installed packages ship; nothing is downloaded.

Every question has one answer whichever way the image is turned, and no answer is in the id of its image. `REAL_IMAGES`
names the package, the licence and the origin of each image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import Image

from codevision_ext.errors import InputError
from data_prep.formats.image_files import png
from data_prep.formats.schema import Row

SOURCE: Final = "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and its right answers."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImage:
    """An image that a package ships."""

    package: str
    path: str
    """Path in the package's folder."""
    licence: str
    origin: str
    """Author or institution."""
    questions: tuple[Question, ...]


def _ask(text: str, *answers: str) -> Question:
    return Question(text=text, answers=answers)


REAL_IMAGES: Final = {
    "page": RealImage(
        package="skimage",
        path="data/page.png",
        licence="BSD-3-Clause",
        origin="scan by the authors of scikit-image",
        questions=(
            _ask("What is the heading of this page?", "Region-based segmentation"),
            _ask("Which word follows 'These' in the paragraph?", "markers"),
            _ask("Which function does the line of code call? Write its name as it is printed.", "np.zeros_like"),
            _ask("What is the last word of the paragraph, before the colon?", "values"),
        ),
    ),
    "coins": RealImage(
        package="skimage",
        path="data/coins.png",
        licence="no known copyright restrictions",
        origin="Brooklyn Museum",
        questions=(
            _ask("How many coins are on the cloth?", "24", "twenty-four"),
            _ask("In how many rows of six do the coins lie?", "4", "four"),
        ),
    ),
    "astronaut": RealImage(
        package="skimage",
        path="data/astronaut.png",
        licence="public domain",
        origin="NASA",
        questions=(
            _ask("What colour is the spacesuit?", "orange"),
            _ask("Which names stand along the upper edge of the round patch?", "Collins Ashby", "Collins and Ashby"),
        ),
    ),
    "officer": RealImage(
        package="matplotlib",
        path="mpl-data/sample_data/grace_hopper.jpg",
        licence="public domain",
        origin="United States Navy",
        questions=(
            _ask("Which surname is on the name tag?", "Hopper"),
            _ask("What colour is the background behind the woman's left shoulder?", "blue"),
        ),
    ),
    "coffee": RealImage(
        package="skimage",
        path="data/coffee.png",
        licence="CC0-1.0",
        origin="Rachel Michetti",
        questions=(
            _ask("What lies on the saucer beside the cup?", "spoon", "a spoon", "teaspoon", "a teaspoon"),
            _ask("What colour is the saucer?", "red"),
        ),
    ),
    "launch": RealImage(
        package="skimage",
        path="data/rocket.jpg",
        licence="CC0-1.0",
        origin="SpaceX",
        questions=(
            _ask("How many lattice towers stand around the vehicle in the middle?", "4", "four"),
            _ask("What kind of vehicle stands in the middle?", "rocket", "a rocket", "spacecraft"),
        ),
    ),
    "tower": RealImage(
        package="sklearn",
        path="datasets/images/china.jpg",
        licence="CC BY 2.0",
        origin="danielbuechele",
        questions=(_ask("What colour are the tiles of the roofs?", "orange"),),
    ),
    "flower": RealImage(
        package="sklearn",
        path="datasets/images/flower.jpg",
        licence="CC BY 2.0",
        origin="vultilion",
        questions=(_ask("What colour are the petals?", "orange"),),
    ),
    "chelsea": RealImage(
        package="skimage",
        path="data/chelsea.png",
        licence="CC0-1.0",
        origin="Stefan van der Walt",
        questions=(
            _ask("Which animal is this?", "cat", "a cat"),
            _ask("What colour are its eyes?", "green", "yellow-green", "yellow green"),
        ),
    ),
    "photographer": RealImage(
        package="skimage",
        path="data/camera.png",
        licence="CC0-1.0",
        origin="Lav Varshney",
        questions=(
            _ask("On what does the camera stand?", "tripod", "a tripod"),
            _ask("Through what does the man look?", "camera", "a camera", "the camera"),
        ),
    ),
    "wall": RealImage(
        package="skimage",
        path="data/brick.png",
        licence="CC0-1.0",
        origin="CC0Textures",
        questions=(_ask("Of what is the wall built?", "brick", "bricks"),),
    ),
    "ground": RealImage(
        package="skimage",
        path="data/gravel.png",
        licence="CC0-1.0",
        origin="CC0Textures",
        questions=(_ask("What covers the ground?", "gravel", "stones", "pebbles", "small stones"),),
    ),
}
"""Images by the id that rows have in `picture_id`."""


def image_path(image: RealImage) -> Path:
    """Return the path of an image.

    Raises:
        InputError: the package isn't installed, or this version of it doesn't ship the image.
    """
    spec = find_spec(image.package)
    path = Path(spec.origin).parent / image.path if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputError(f"suite {SOURCE}: the package {image.package} isn't installed, or has no {image.path}")
    return path


def read_rows() -> Iterator[Row]:
    """Yield a row for each question, with the image upright.

    Raises:
        InputError: an image isn't there.
    """
    index = 0
    for name, entry in REAL_IMAGES.items():
        with Image.open(image_path(entry)) as opened:
            image = opened.convert("RGB")
        data = png(image)
        for question in entry.questions:
            yield Row(
                images=(data,),
                question=question.text,
                answers=question.answers,
                source=SOURCE,
                split="test",
                index=index,
                size=image.size,
                licence=entry.licence,
                picture_id=name,
            )
            index += 1
