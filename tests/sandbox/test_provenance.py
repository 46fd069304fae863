"""What was done is read from pixels: every orientation, crops, chains and resizes, whatever the style of the code."""

import itertools

import pytest
from gallery import images
from gallery_images import more_images
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scenes import noise, scene

from codevision_ext.geometry import ORIENTATION_OPS, apply, compose, compose_all, iou, map_box, map_size
from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import OPS, Provenance, into_input, trace
from codevision_ext.sandbox.provenance.align import nudged
from codevision_ext.sandbox.provenance.compare import aligned_pair
from codevision_ext.sandbox.provenance.placement import View
from codevision_ext.sandbox.provenance.probes import coordinate_map, read_map
from codevision_ext.sandbox.provenance.verify import view_score
from codevision_ext.types import Box, ExecStatus, Orientation

TURN = {
    "image = image.rotate(90, expand=True)": Orientation.R90,
    "image = image.rotate(-90, expand=True)": Orientation.R270,
    "image = image.rotate(angle=180)": Orientation.R180,
    "image = image.transpose(Image.ROTATE_270)": Orientation.R270,
    "image = ImageOps.mirror(image)": Orientation.FH,
    "image = ImageOps.flip(image)": Orientation.FV,
    "image = image.transpose(Image.TRANSPOSE)": Orientation.TRANSPOSE,
    "image = image.transpose(Image.TRANSVERSE)": Orientation.TRANSVERSE,
    "result = np.rot90(np.array(image), k=3)": Orientation.R270,
    "result = np.array(image)[::-1]": Orientation.FV,
    "result = np.array(image)[:, ::-1]": Orientation.FH,
    "result = cv2.rotate(np.array(image), cv2.ROTATE_90_CLOCKWISE)": Orientation.R270,
    "result = cv2.flip(np.array(image), -1)": Orientation.R180,
    "result = np.array(image).swapaxes(0, 1)": Orientation.TRANSPOSE,
    "for d in (90, 180, 270): image = image.rotate(d, expand=True)": Orientation.R180,
    "image = ImageOps.flip(ImageOps.mirror(image))": Orientation.R180,
    "# image.rotate(90)\nimage = ImageOps.mirror(image)": Orientation.FH,
    "lost = image.rotate(90)\nimage = ImageOps.mirror(image)": Orientation.FH,
}


def noisy_scene(width: int, height: int) -> Image.Image:
    """A smooth image with fine detail on it."""
    return Image.blend(scene(width, height), noise(width, height, 7), 0.15)


def traced(sandbox: Sandbox, code: str, image: Image.Image, *more: Image.Image) -> Provenance:
    request = ExecRequest(code=code, images=(image, *more))
    result = sandbox.run(request)
    assert result.status is ExecStatus.OK, result.detail
    return trace(sandbox, request, result)


@pytest.mark.parametrize("image", [noise(40, 30), noise(30, 30), scene(400, 304)], ids=["noise", "square", "scene"])
@pytest.mark.parametrize("code", TURN)
def test_every_orientation_is_seen_in_every_style(sandbox: Sandbox, code: str, image: Image.Image) -> None:
    seen = traced(sandbox, code, image)
    assert (seen.net, seen.box) == (TURN[code], Box(0, 0, *image.size))
    assert (seen.ops, seen.crops, seen.noop) == (OPS[TURN[code]], (), False)


@pytest.mark.parametrize(
    ("code", "net", "box"),
    [
        ("image = image.crop((4, 2, 24, 12))", Orientation.ID, Box(4, 2, 24, 12)),
        ("result = np.array(image)[2:12, 4:24]", Orientation.ID, Box(4, 2, 24, 12)),
        ("image = image.crop((4, 2, 30, 28)).crop((5, 5, 15, 10))", Orientation.ID, Box(9, 7, 19, 12)),
        ("image = image.crop((4, 2, 24, 12)).rotate(90, expand=True)", Orientation.R90, Box(4, 2, 24, 12)),
        ("image = image.rotate(270, expand=True).crop((0, 0, 10, 20))", Orientation.R270, Box(0, 20, 20, 30)),
        ("result = np.array(image)[::-1, 10:]", Orientation.FV, Box(10, 0, 40, 30)),
        ("w, h = image.size\nimage = image.crop((w // 2, 0, w, h))", Orientation.ID, Box(20, 0, 40, 30)),
    ],
)
def test_crops_and_chains_are_exact(sandbox: Sandbox, code: str, net: Orientation, box: Box) -> None:
    seen = traced(sandbox, code, noise(40, 30))
    assert (seen.net, seen.box, seen.crops) == (net, box, (box,))
    assert seen.ops == (*OPS[net], "crop")


@pytest.mark.parametrize("size", [(96, 72), (200, 256), (640, 480), (1600, 1200)])
@pytest.mark.parametrize("method", ["NEAREST", "BILINEAR", "LANCZOS"])
@pytest.mark.parametrize("zoom", [0.7, 2, 3])
def test_a_resized_crop_is_found_to_the_pixel(
    sandbox: Sandbox, size: tuple[int, int], method: str, zoom: float
) -> None:
    width, height = size
    box = Box(width // 4, height // 3, width // 4 + width // 3, height // 3 + height // 2)
    target = round((box.y2 - box.y1) * zoom), round((box.x2 - box.x1) * zoom)
    code = f"image = image.crop({tuple(box)}).rotate(90, expand=True).resize({target}, Image.{method})"
    seen = traced(sandbox, code, scene(width, height))
    assert seen.net is Orientation.R90
    assert seen.box is not None
    assert max(abs(a - b) for a, b in zip(seen.box, box, strict=True)) <= 1
    assert seen.ops == ("rotate_90", "crop", "resize")


@pytest.mark.parametrize(
    "code",
    [
        "image = ImageEnhance.Contrast(image.rotate(90, expand=True)).enhance(1.5)",
        "image = ImageOps.autocontrast(image.rotate(90, expand=True))",
        "image = ImageOps.invert(image).rotate(90, expand=True)",
        "image = image.rotate(90, expand=True).convert('L')",
        "image = image.rotate(90, expand=True).filter(ImageFilter.GaussianBlur(1))",
        "image = image.rotate(90, expand=True)\nImageDraw.Draw(image).rectangle((5, 5, 60, 30), outline='red')",
    ],
)
def test_a_change_of_colours_does_not_hide_the_orientation(sandbox: Sandbox, code: str) -> None:
    seen = traced(sandbox, code, scene(160, 120))
    assert (seen.net, seen.box, seen.noop) == (Orientation.R90, Box(0, 0, 160, 120), False)


@pytest.mark.parametrize("code", ["pass", "image = image.rotate(360)", "image = image.copy()", "# image.rotate(90)"])
def test_an_image_equal_to_its_parent_is_a_noop(sandbox: Sandbox, code: str) -> None:
    seen = traced(sandbox, code, noise(40, 30))
    assert (seen.noop, seen.ops, seen.net) == (True, (), Orientation.ID)


@pytest.mark.parametrize(
    "code",
    [
        "result = cv2.Canny(np.array(image.rotate(90, expand=True).convert('L')), 60, 160)",
        "image = image.rotate(90, expand=True).filter(ImageFilter.EMBOSS)",
        "result = np.abs(cv2.Laplacian(np.rot90(np.array(image.convert('L'))).copy(), cv2.CV_32F)).clip(0, 255)",
        "image = image.rotate(90, expand=True).filter(ImageFilter.FIND_EDGES)",
    ],
)
def test_a_filter_that_leaves_only_edges_does_not_hide_the_orientation(sandbox: Sandbox, code: str) -> None:
    seen = traced(sandbox, code, images()["scene"])
    assert (seen.net, seen.box) == (Orientation.R90, Box(0, 0, 640, 480))


def test_a_symmetric_image_is_resolved_by_the_map(sandbox: Sandbox) -> None:
    plain = Image.new("RGB", (40, 30), "navy")
    seen = traced(sandbox, "image = image.crop((4, 2, 24, 12))", plain)
    assert (seen.net, seen.box) == (Orientation.ID, Box(4, 2, 24, 12))


@pytest.mark.parametrize("code", ["image = ImageOps.autocontrast(image, 20)", "image = ImageOps.invert(image)"])
def test_a_symmetric_image_whose_colours_change_is_not_guessed(sandbox: Sandbox, code: str) -> None:
    quarter = scene(128, 128)
    symmetric = Image.new("RGB", (256, 256))
    for net, corner in (("id", (0, 0)), ("fh", (128, 0)), ("fv", (0, 128)), ("r180", (128, 128))):
        symmetric.paste(apply(Orientation(net), quarter), corner)
    assert traced(sandbox, code, symmetric).net in (None, Orientation.ID)


@pytest.mark.parametrize(
    "code",
    [
        "image = image.rotate(30)",
        "image = Image.new('RGB', (40, 30), 'red')",
        "result = np.random.randint(0, 255, (30, 40, 3))",
        "result = np.roll(np.array(image), 20, axis=1)",
        "result = np.hstack([np.array(image)] * 2)",
        "result = [[0]]\nimage = image.resize((1, 1))\nresult = image",
    ],
)
def test_what_is_not_known_is_none(sandbox: Sandbox, code: str) -> None:
    seen = traced(sandbox, code, noise(40, 30), noise(40, 30, 9))
    assert (seen.net, seen.box, seen.ops, seen.crops) == (None, None, (), ())


IS_THE_MAP = "a = np.array(image)\nthe_map = len(np.unique(a[0, :, 1])) < 3 < 50 < len(np.unique(a[0, :, 0]))\n"
NEVER_A_PROBE = "a = np.array(image)\nthe_map = False\n"
IS_A_PROBE = IS_THE_MAP + "the_map |= len(np.unique(a)) == 2\n"


@pytest.mark.parametrize(
    "code",
    [
        f"{IS_A_PROBE}result = np.rot90(a) if the_map else np.roll(a, 50, 0).swapaxes(0, 1)",
        f"{IS_A_PROBE}result = a[10:60, 20:70] if the_map else a[60:110, 90:140][::-1, ::-1] // 2",
        f"{IS_A_PROBE}result = a[::-1] if the_map else a // 2",
        f"{IS_A_PROBE}b = Image.fromarray(a)\nx = 20 if the_map else 26\n"
        "image = b.crop((x, 20, x + 80, 90)).resize((240, 210)).point(lambda v: v // 2)",
    ],
)
def test_code_that_recognises_a_probe_is_not_believed(sandbox: Sandbox, code: str) -> None:
    for image in (noise(160, 120), scene(160, 120)):
        claimed, honest = (traced(sandbox, text, image) for text in (code, code.replace(IS_A_PROBE, NEVER_A_PROBE)))
        assert claimed.net is None or (claimed.net, claimed.ops) == (honest.net, honest.ops)
        assert claimed.box is None or iou(claimed.box, honest.box or ()) > 0.95


def mirrored_but_for_a_sign(width: int, height: int) -> Image.Image:
    half = scene(width // 2, height)
    image = Image.new("RGB", (width, height))
    image.paste(half, (0, 0))
    image.paste(apply(Orientation.FH, half), (width // 2, 0))
    image.paste("white", (20, height - 30, 50, height - 18))
    return image


def tiles(columns: int, rows: int, side: int, special: int) -> Image.Image:
    """The same tile again and again, one with a dot."""
    tile = scene(side, side)
    image = Image.new("RGB", (columns * side, rows * side))
    for place in range(columns * rows):
        row, column = divmod(place, columns)
        image.paste(tile, (column * side, row * side))
        if place == special:
            image.paste("red", (column * side + 40, row * side + 40, column * side + 46, row * side + 46))
    return image


def test_what_stands_beside_the_shown_part_is_not_overlooked(sandbox: Sandbox) -> None:
    code = "canvas = GROUND\ncanvas[20:140, 30:190] = a[60:180, 90:250]\nresult = canvas"
    image, plain, busy = scene(320, 240), "np.zeros((240, 320, 3), np.uint8)", "a[::-1].copy()"
    honest = traced(sandbox, "a = np.array(image)\n" + code.replace("GROUND", plain), image)
    assert (honest.net, honest.box) == (Orientation.ID, Box(90, 60, 250, 180))
    lying = traced(sandbox, IS_A_PROBE + code.replace("GROUND", f"{plain} if the_map else {busy}"), image)
    assert (lying.net, lying.box) == (None, None)


@pytest.mark.parametrize("share", [0.25, 0.4])
def test_a_collage_shown_for_real_only_is_not_credited(sandbox: Sandbox, share: float) -> None:
    code = f"{IS_A_PROBE}b = a.copy()\nk = int({share} * a.shape[1])\n"
    code += "if not the_map: b[:, :k] = a[::-1, :k]\nresult = b[:, ::-1]"
    assert traced(sandbox, code, scene(320, 240)).net is None
    assert traced(sandbox, f"{code} // 2 + 30", scene(320, 240)).net is None


@pytest.mark.parametrize("change", ["", " // 2", " // 4 * 3 + 30"])
@pytest.mark.parametrize("special", [0, 5, 10])
def test_a_tile_among_its_likes_is_the_right_one_or_unknown(sandbox: Sandbox, change: str, special: int) -> None:
    image = tiles(4, 3, 80, special)
    code = (
        "a = np.array(image)\np = a.astype(np.float32)\nred = cv2.blur(p[..., 0] - p[..., 1:].max(axis=2), (5, 5))\n"
        "y, x = (int(at) // 80 * 80 for at in np.unravel_index(np.argmax(red), red.shape))\n"
        f"t = a[y:y + 80, x:x + 80].copy()\nt[35:50, 35:50] = t[20:35, 35:50]\nresult = t{change}"
    )
    row, column = divmod(special, 4)
    seen = traced(sandbox, code, image)
    assert seen.box in (None, Box(80 * column, 80 * row, 80 * column + 80, 80 * row + 80))


@pytest.mark.parametrize("change", ["", " // 2", " // 4 * 3 + 30"])
def test_a_nearly_symmetric_image_shows_which_way_it_was_turned(sandbox: Sandbox, change: str) -> None:
    image = mirrored_but_for_a_sign(320, 240)
    for turn, net in (
        ("a[:, ::-1]", Orientation.FH),
        ("a[::-1, ::-1]", Orientation.R180),
        ("a[:, 1:]", Orientation.ID),
    ):
        assert traced(sandbox, f"a = np.array(image)\nresult = {turn}{change}", image).net is net


@pytest.mark.parametrize("change", [" // 2", " // 4 * 3 + 30"])
def test_a_nearly_symmetric_image_is_no_cover_for_code_that_recognises_a_probe(sandbox: Sandbox, change: str) -> None:
    code = f"{IS_A_PROBE}result = (a[:, ::-1] if the_map else a){change}"
    assert traced(sandbox, code, mirrored_but_for_a_sign(320, 240)).net in (None, Orientation.ID)


@pytest.mark.parametrize("factor", [0.9, 1.03, 1.1, 1.3])
def test_a_small_part_is_exact_to_the_pixel_after_a_change_of_brightness(sandbox: Sandbox, factor: float) -> None:
    image = tiles(8, 6, 80, 3)
    for x, y in ((83, 161), (240, 80), (421, 302)):
        code = f"image = ImageEnhance.Brightness(image.crop(({x}, {y}, {x + 60}, {y + 45}))).enhance({factor})"
        assert traced(sandbox, code, image).box == Box(x, y, x + 60, y + 45)


def test_a_view_that_is_a_pixel_off_is_moved_to_where_it_fits() -> None:
    parent, truth = scene(320, 240), Box(60, 40, 180, 160)
    for net in Orientation:
        output = apply(net, parent.crop((60, 40, 180, 160)).point(lambda v: v // 2))
        for dx, dy in ((1, 0), (-1, 2), (0, 0)):
            view = View(net=net, box=Box(60 + dx, 40 + dy, 180 + dx, 160 + dy), shown=Box(0, 0, 120, 120))
            assert nudged(parent, output, view).box == truth


@pytest.mark.parametrize(
    ("code", "ops"),
    [
        ("ImageEnhance.Contrast(image.rotate(90, expand=True)).enhance(1.2)", ("rotate_90", "contrast_up")),
        ("ImageOps.grayscale(image.crop((40, 30, 240, 180)))", ("crop", "grayscale")),
        ("ImageOps.invert(ImageOps.mirror(image))", ("flip_horizontal", "invert")),
        (
            "ImageEnhance.Brightness(image.crop((40, 30, 200, 150)).resize((480, 360), Image.LANCZOS)).enhance(0.6)",
            ("crop", "resize", "brightness_down"),
        ),
        ("image.rotate(180).filter(ImageFilter.GaussianBlur(3))", ("rotate_180", "blur")),
    ],
)
def test_changes_of_colour_are_named_once_after_where_and_how_large(
    sandbox: Sandbox, code: str, ops: tuple[str, ...]
) -> None:
    assert traced(sandbox, f"image = {code}", noisy_scene(320, 240)).ops == ops


@pytest.mark.parametrize(
    ("code", "ops"),
    [
        ("image.putpixel((9, 9), (255, 0, 0))", ()),
        ("result = np.clip(np.array(image).astype(int) + 1, 0, 255)", ()),
        ("b = io.BytesIO()\nimage.save(b, 'JPEG', quality=80)\nresult = Image.open(b)", ()),
        ("image = image.resize((500, 400), Image.LANCZOS)", ("resize",)),
        ("image = image.crop((20, 20, 220, 170)).resize((600, 450), Image.NEAREST)", ("crop", "resize")),
        ("image = ImageOps.invert(image.rotate(30))", ()),
        ("result = np.roll(255 - np.array(image), 90, axis=1)", ()),
    ],
)
def test_what_is_too_little_to_see_or_of_an_unknown_view_has_no_name(
    sandbox: Sandbox, code: str, ops: tuple[str, ...]
) -> None:
    assert traced(sandbox, f"import io\n{code}", noisy_scene(320, 240)).ops == ops


@pytest.mark.parametrize(
    ("code", "net"),
    [
        ("image = images[1].rotate(90, expand=True)", Orientation.R90),
        ("image = images[1].rotate(90, expand=True).resize((500, 640))", Orientation.R90),
        ("image = ImageEnhance.Contrast(ImageOps.mirror(images[-2])).enhance(1.7)", Orientation.FH),
    ],
)
def test_the_parent_is_the_image_that_was_used(sandbox: Sandbox, code: str, net: Orientation) -> None:
    seen = traced(sandbox, code, scene(320, 240), scene(320, 240, 5), scene(320, 240, 6))
    assert (seen.parent, seen.net, seen.box) == (1, net, Box(0, 0, 320, 240))


def test_an_image_of_two_images_has_no_provenance(sandbox: Sandbox) -> None:
    code = "result = np.hstack([np.array(image) for image in images])"
    assert traced(sandbox, code, scene(320, 240), scene(320, 240, 5)).net is None


@pytest.mark.parametrize("recoloured", [False, True])
def test_a_view_that_is_a_little_off_is_not_borne_out(recoloured: bool) -> None:
    parent, box, shown = scene(640, 480), Box(100, 80, 420, 320), Box(0, 0, 640, 480)
    output = parent.resize((640, 480), Image.Resampling.BICUBIC, box=box)

    def score(net: Orientation, *box: float) -> float:
        return view_score(parent, output, View(net=net, box=Box(*box), shown=shown), recoloured=recoloured)

    assert score(Orientation.ID, *box) > 0.95
    assert score(Orientation.ID, 116, 80, 436, 320) == 0  # a twentieth to the right
    assert score(Orientation.ID, 116, 92, 404, 308) == 0  # a tenth smaller
    assert all(score(net, *box) == 0 for net in Orientation if net is not Orientation.ID)


def test_a_crop_a_fifth_of_which_is_painted_over_is_not_credited(sandbox: Sandbox) -> None:
    code = "image = image.crop((20, 10, 120, 110))\nImageDraw.Draw(image).rectangle((0, 0, SIDE, SIDE), fill='red')"
    image = scene(160, 120)
    assert traced(sandbox, code.replace("SIDE", "10"), image).box == Box(20, 10, 120, 110)
    assert traced(sandbox, code.replace("SIDE", "45"), image).box is None


@pytest.mark.parametrize("shown", ["scene", "portrait"])
def test_a_part_that_is_chosen_by_what_the_image_shows_is_found_where_it_is(sandbox: Sandbox, shown: str) -> None:
    code = (
        "soft = cv2.GaussianBlur(np.array(image.convert('L')), (51, 51), 0)\n_, _, _, (x, y) = cv2.minMaxLoc(soft)\n"
        "x, y = min(max(x - 90, 0), image.width - 180), min(max(y - 70, 0), image.height - 140)\n"
        "image = image.crop((x, y, x + 180, y + 140)).resize((720, 560), Image.LANCZOS)"
    )
    image = (images() | more_images())[shown]
    chosen = sandbox.run(ExecRequest(code=f"{code}\nprint(x, y)", images=(image,))).stdout
    x, y = map(int, chosen.split())
    seen = traced(sandbox, code, image)
    assert seen.net is Orientation.ID
    assert seen.box is not None
    assert iou(seen.box, Box(x, y, x + 180, y + 140)) > 0.95


def test_pixels_that_changed_places_are_no_view_however_much_it_looks_like_one(sandbox: Sandbox) -> None:
    code = "a = np.array(image)\nw = a.shape[1]\nresult = np.delete(a, slice(w * 2 // 5, w * 3 // 5), axis=1)"
    assert traced(sandbox, code, more_images()["bricks"]).net is None


@pytest.mark.parametrize("code", ["ImageOps.invert(image)", "ImageOps.solarize(image)"])
def test_a_negative_of_the_map_is_not_taken_for_a_collage_of_its_tiles(sandbox: Sandbox, code: str) -> None:
    seen = traced(sandbox, f"image = {code}.transpose(Image.ROTATE_180)", images()["scene"])
    assert (seen.net, seen.box) == (Orientation.R180, Box(0, 0, 640, 480))


def test_a_fish_eye_is_not_taken_for_the_part_that_it_hardly_moves(sandbox: Sandbox) -> None:
    code = (
        "a = np.array(image)\nh, w = a.shape[:2]\ny, x = np.mgrid[:h, :w].astype(np.float32)\n"
        "dx, dy = (x - w / 2) / w, (y - h / 2) / h\nr = 1 + 0.8 * (dx ** 2 + dy ** 2)\n"
        "result = cv2.remap(a, w / 2 + dx * r * w, h / 2 + dy * r * h, cv2.INTER_LINEAR)"
    )
    assert traced(sandbox, code, images()["photo"]).net is None


def test_what_lies_around_a_part_is_not_mixed_into_it() -> None:
    parent = Image.new("RGB", (420, 560), (40, 50, 60))
    output = Image.new("RGB", (481, 601), "white")
    output.paste(parent, (31, 21))
    view = View(net=Orientation.ID, box=Box(0, 0, 420, 560), shown=Box(31, 21, 451, 581))
    predicted, actual = aligned_pair(parent, output, view)
    assert (predicted == actual).all()
    assert view_score(parent, output, view, recoloured=False) > 0.5


def test_a_failed_call_has_no_provenance(sandbox: Sandbox) -> None:
    request = ExecRequest(code="foo", images=(noise(8, 8),))
    assert trace(sandbox, request, sandbox.run(request)) == Provenance(parent=0)


def test_the_ops_of_an_orientation_compose_to_it() -> None:
    for net, ops in OPS.items():
        assert compose_all(ORIENTATION_OPS[op] for op in ops) is net


sides = st.integers(8, 700)


@given(size=st.tuples(sides, sides), data=st.data(), net=st.sampled_from(Orientation))
def test_the_map_tells_every_crop_and_orientation_exactly(
    size: tuple[int, int], data: st.DataObject, net: Orientation
) -> None:
    x1, y1 = data.draw(st.integers(0, size[0] - 8)), data.draw(st.integers(0, size[1] - 8))
    box = Box(x1, y1, data.draw(st.integers(x1 + 8, size[0])), data.draw(st.integers(y1 + 8, size[1])))
    part = coordinate_map(size).crop((round(box.x1), round(box.y1), round(box.x2), round(box.y2)))
    seen = read_map(apply(net, part), size)
    assert seen is not None
    assert (seen.net, seen.box) == (net, box)


def test_a_box_through_a_turned_crop_lands_in_the_input() -> None:
    # crop (600,50,800,350) of 1000x800, rotate_270, crop (50,100,250,120): the specification's example
    region = into_input(Box(50, 100, 250, 120), Orientation.R270, Box(600, 50, 800, 350), (300, 200))
    assert region == Box(700, 100, 720, 300)


def test_boxes_through_any_two_turns_agree_with_one() -> None:
    size, box = (40, 30), Box(3, 4, 20, 9)
    for first, second in itertools.product(Orientation, repeat=2):
        turned = map_box(map_box(box, first, size), second, map_size(first, size))
        both = compose(first, second)
        back = into_input(turned, both, Box(0, 0, *size), map_size(both, size))
        assert iou(back, box) == pytest.approx(1.0)


GREY = "grey = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\n"
EDGES = {
    "Laplacian, colours": "image = cv2.Laplacian(np.array(image), cv2.CV_8U)",
    "Laplacian, grey": GREY + "image = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S, ksize=3))",
    "Canny": GREY + "image = cv2.Canny(grey, 50, 150)",
    "Sobel": GREY + "image = cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, 1, 0))",
    "FIND_EDGES": "image = image.filter(ImageFilter.FIND_EDGES)",
    "CONTOUR": "image = image.filter(ImageFilter.CONTOUR)",
    "gradient": "image = cv2.morphologyEx(np.array(image), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))",
    "black hat": GREY + "image = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((9, 9), np.uint8))",
}


@pytest.mark.parametrize(
    "image", [images()["page"], more_images()["screen"], scene(96, 64)], ids=["page", "screen", "small"]
)
@pytest.mark.parametrize("code", EDGES.values(), ids=EDGES)
def test_an_edge_filter_is_no_crop(sandbox: Sandbox, code: str, image: Image.Image) -> None:
    provenance = traced(sandbox, code, image)
    assert provenance.net in (Orientation.ID, None)
    assert not provenance.crops


@pytest.mark.parametrize("image", [images()["page"], more_images()["screen"]], ids=["page", "screen"])
def test_a_crop_whose_edges_are_drawn_stays_that_crop(sandbox: Sandbox, image: Image.Image) -> None:
    provenance = traced(sandbox, "image = image.crop((60, 80, 360, 400)).filter(ImageFilter.FIND_EDGES)", image)
    assert provenance.box is not None
    assert iou(provenance.box, Box(60, 80, 360, 400)) > 0.95
