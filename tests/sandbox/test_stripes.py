"""Details of small images are traced through changes of colours; code that recognises stripes isn't believed."""

import pytest
from PIL import Image
from scenes import noise, scene

from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import Provenance, trace
from codevision_ext.sandbox.provenance.placement import View
from codevision_ext.sandbox.provenance.stripes import LARGEST, read_stripes
from codevision_ext.types import Box, ExecStatus, Orientation

DETAIL = "c = image.crop((33, 33, 46, 43))\n"
PLACE = Box(33, 33, 46, 43)
IMAGE = Image.blend(scene(84, 84), noise(84, 84, 5), 0.5)


def traced(sandbox: Sandbox, code: str) -> Provenance:
    request = ExecRequest(code=code, images=(IMAGE,))
    result = sandbox.run(request)
    assert result.status is ExecStatus.OK, result.detail
    return trace(sandbox, request, result)


@pytest.mark.parametrize(
    ("code", "net"),
    [
        ("image = ImageOps.invert(c).resize((600, 480), Image.BICUBIC)", Orientation.ID),
        ("image = ImageOps.autocontrast(c.resize((600, 480), Image.LANCZOS), cutoff=1)", Orientation.ID),
        ("image = ImageOps.equalize(c.convert('L')).resize((500, 400)).rotate(90, expand=True)", Orientation.R90),
        ("image = ImageEnhance.Contrast(ImageOps.mirror(c).resize((78, 60))).enhance(1.8)", Orientation.FH),
        ("image = c.resize((130, 100), Image.BICUBIC)", Orientation.ID),
    ],
)
def test_a_detail_of_a_small_image_is_traced_to_the_pixel(sandbox: Sandbox, code: str, net: Orientation) -> None:
    claim = traced(sandbox, DETAIL + code)
    assert (claim.net, claim.box) == (net, PLACE)


@pytest.mark.parametrize("shown", ["ImageOps.mirror(c)", "image.crop((40, 20, 53, 30))", "c.rotate(180)"])
def test_code_that_recognises_stripes_is_not_believed(sandbox: Sandbox, shown: str) -> None:
    """It shows the detail for images of two colours only, and something else for the real image."""
    code = f"real = len(np.unique(np.array(image))) > 2\n{DETAIL}c = {shown} if real else c\n"
    claim = traced(sandbox, code + "image = ImageOps.invert(c).resize((260, 200), Image.BICUBIC)")
    assert claim.net is None


def test_code_that_fails_on_stripes_or_sees_a_large_image_gets_no_view() -> None:
    assert read_stripes(lambda _: None, (84, 84), (40, 40)) is None
    assert read_stripes(lambda image: image.resize((30, 40)), (84, 84), (40, 40)) is None
    assert read_stripes(lambda image: image, (LARGEST + 1, 20), (LARGEST + 1, 20)) is None


def test_stripes_are_read_through_a_negative_and_a_margin() -> None:
    def run(image: Image.Image) -> Image.Image:
        shown = image.crop((10, 20, 70, 60)).transpose(Image.Transpose.ROTATE_90).point(lambda level: 255 - level)
        framed = Image.new("RGB", (60, 80), "gray")
        framed.paste(shown, (10, 10))
        return framed

    view = read_stripes(run, (90, 80), (60, 80))
    assert view == View(net=Orientation.R90, box=Box(10, 20, 70, 60), shown=Box(10, 10, 50, 70))


def test_half_a_pixel_is_much_of_a_part_of_a_few_pixels() -> None:
    whole, shown = Box(3, 3, 13, 13), Box(0, 0, 100, 100)
    parts = (whole, Box(3.5, 3, 13, 13), Box(3.5, 3, 53, 53))
    assert [View(net=Orientation.ID, box=box, shown=shown).is_sharp for box in parts] == [True, False, True]
