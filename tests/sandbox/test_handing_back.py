"""What a snippet leaves behind is used where it is clear what is meant; else the detail says how to hand it back."""

import pytest
from PIL import Image
from scenes import Run, noise

from codevision_ext.sandbox import ExecRequest, Limits, Sandbox
from codevision_ext.sandbox.protocol import EarlierCall
from codevision_ext.sandbox.snippet.source import read_source
from codevision_ext.types import ExecStatus

IMAGE = noise(40, 30)
CROP = IMAGE.crop((0, 0, 9, 9))
TURNED = IMAGE.rotate(90, expand=True)
MATCH = "cv2.matchTemplate(np.array(images[0]), np.array(images[0])[2:9, 2:9], cv2.TM_CCOEFF_NORMED)"
CUT = "image.crop((0, 0, 9, 9))"
TURN = "image.rotate(90, expand=True)"


@pytest.mark.parametrize(
    ("code", "images"),
    [
        (f"result = {MATCH}\nimage = {CUT}", [CROP]),
        (f"image = {CUT}\nresult = {MATCH}", [CROP]),
        (f"image = {CUT}\noutput = np.argwhere(np.array(images[0])[:, :, 0] > 9)", [CROP]),
        (f"image = {CUT}\nresult = 7\noutput = 'text'\nprocessed_image = [1, 2]", [CROP]),
        (f"img = {CUT}\nresult = {MATCH}", [CROP]),
        (f"result = {CUT}\nimage = result", [CROP]),
        (f"result = {CUT}\nimage = result.rotate(90)", [CROP.rotate(90)]),
        (f"image = image.convert('RGB')\nresult = {CUT}", [CROP]),
        ("image = np.array(image)\nresult = np.rot90(image)", [TURNED]),
        (f"image = {TURN}\nresult = image.crop((0, 0, 5, 5))", [TURNED.crop((0, 0, 5, 5))]),
        (f"image = {CUT}\nresult = images[0].rotate(90, expand=True)", [CROP, TURNED]),
        (f"image, result = {CUT}, {TURN}", [CROP, TURNED]),
        ("image = image.convert('RGB')\nresult = np.rot90(np.array(image)) / 255.0", [TURNED]),
        (f"part = {CUT}\nimage = {TURN}", [TURNED]),
        (f"image = {{'a': {CUT}, 'b': {TURN}}}", [CROP, TURNED]),
        (f"result = {TURN}\nresult = None\nimage = {CUT}", [CROP]),
        (f"def f():\n    global image\n    image = {CUT}\nf()", [CROP]),
        (f"for image in [{CUT}, {TURN}]: pass", [TURNED]),
    ],
)
def test_an_assigned_image_goes_before_data_and_after_nothing(run: Run, code: str, images: list[Image.Image]) -> None:
    result = run(code, IMAGE)
    assert result.status is ExecStatus.OK, result.detail
    assert [image.tobytes() for image in result.images] == [image.tobytes() for image in images]
    assert result.detail == ""


@pytest.mark.parametrize(
    ("code", "image", "place"),
    [
        (f"cropped = {CUT}", CROP, "`cropped`"),
        ("a = np.array(image)\nb = a[:9, :9]\nb.sum()\nx = 1", CROP, "`b`"),
        (f"big = {CUT}\nbig = big.rotate(90)", CROP.rotate(90), "`big`"),
        (f"c = {CUT}\nd = ImageDraw.Draw(c)\nd.point((0, 0))", None, "`c`"),
        (CUT, CROP, "the last expression"),
        (f"def f(p):\n    return {CUT}\nf(image)", CROP, "the last expression"),
        (f"x = 1\n{CUT} if x else None", CROP, "the last expression"),
        (f"{CUT}.show()", CROP, "what was shown"),
        (f"display({CUT})", CROP, "what was shown"),
        (
            f"cv2.namedWindow('a')\ncv2.imshow('a', np.array({CUT}))\ncv2.waitKey(0)\ncv2.destroyAllWindows()",
            CROP,
            "what was shown",
        ),
        ("import matplotlib.pyplot as plt\nplt.imshow(image)\nplt.show()", None, "what was shown"),
        ("import matplotlib.pyplot as plt\nplt.imshow(image)\nplt.show()\nplt.close()", None, "what was shown"),
        ("import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.imshow(image)", None, "what was shown"),
        (f"images.append({CUT})", CROP, "what was put into `images`"),
        ("img = np.array(image)\npart = img[:9, :9]", CROP, "`part`"),
        ("image = image.convert('RGB')\npart = np.array(image)[:9, :9]", CROP, "`part`"),
        (f"images[0] = {CUT}", CROP, "what was put into `images`"),
        (f"part = {CUT}\nresult = part.size", CROP, None),
    ],
)
def test_an_image_that_was_made_is_used_and_the_model_is_told(
    run: Run, code: str, image: Image.Image | None, place: str | None
) -> None:
    result = run(code, IMAGE)
    if place is None:
        assert (result.status, result.images) == (ExecStatus.BAD_IMAGE, ())
        return
    assert result.status is ExecStatus.OK, result.detail
    assert len(result.images) == 1
    assert result.images[0].tobytes() != IMAGE.tobytes()
    assert image is None or result.images[0].tobytes() == image.tobytes()
    assert result.detail == f"{place} was taken as the result: assign it to `image`"


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (f"a = {CUT}\nb = {TURN}", "not handed back: `a`, `b`; assign an image, or a list of images, to `image`"),
        (f"a = {CUT}\nprint(a.size)", "not handed back: `a`; assign an image, or a list of images, to `image`"),
        (f"def process(p):\n    return {CUT}", "`process` was never called"),
        ("a = np.array(image)", ""),
        ("a = np.array(image)\nprint(a.mean())", ""),
        ("image.size", ""),
        ("image", ""),
        ("np.array(image).astype(float)", ""),
        ("draw.line((0, 0, 9, 9))\nNone", ""),
        ("a = np.array(image)\ndraw.line((0, 0, 9, 9))", ""),
        ("mask = Image.new('L', (9, 9))\nImageDraw.Draw(image).line((0, 0, 9, 9))", ""),
        ("stamp = Image.new('RGB', (9, 9))\nimage.paste(stamp)", ""),
        ("exit()", ""),
    ],
)
def test_where_it_is_not_clear_what_is_meant_nothing_is_guessed(run: Run, code: str, detail: str) -> None:
    result = run(code, IMAGE)
    assert result.status is ExecStatus.OK, result.detail
    assert [image.size for image in result.images] == [IMAGE.size]
    assert result.detail.startswith(detail)
    assert bool(result.detail) == bool(detail)


def test_a_list_of_what_was_made_is_used_as_a_whole(run: Run) -> None:
    result = run("crops = []\nfor n in (3, 4):\n    part = image.crop((0, 0, n, n))\n    crops.append(part)")
    assert [image.size for image in result.images] == [(3, 3), (4, 4)]
    assert result.detail == "`crops` was taken as the result: assign it to `image`"


@pytest.mark.parametrize(
    "ending",
    [
        "exit()",
        "quit()",
        "exit(0)",
        "import sys; sys.exit()",
        "import sys; sys.exit(0)",
        "raise SystemExit",
        "raise SystemExit(0)",
    ],
)
def test_code_that_ends_itself_keeps_its_result(run: Run, ending: str) -> None:
    for code in (f"image = {TURN}\n{ending}", f"image = {TURN}\ndef f():\n    {ending}\nf()\nimage = 1 / 0"):
        result = run(code, IMAGE)
        assert result.status is ExecStatus.OK, result.detail
        assert result.images[0].tobytes() == TURNED.tobytes()


def test_an_earlier_call_that_ended_itself_is_run_again_as_it_was(sandbox: Sandbox) -> None:
    earlier = EarlierCall(
        code="import matplotlib.pyplot as plt\nx = 5\nplt.figure()\nexit()\nx = 6", image_index=0, images=1
    )
    result = sandbox.run(ExecRequest(code="print(x)", images=(IMAGE,), earlier=(earlier,)))
    assert (result.status, result.stdout, result.detail) == (ExecStatus.OK, "5\n", "")
    assert result.images[0].tobytes() == IMAGE.tobytes()


@pytest.mark.parametrize(
    "code",
    [
        "```python\nimage = image.rotate(90, expand=True)\n```",
        "```\nimage = image.rotate(90, expand=True)\n```",
        "```py\nimage = image.rotate(90, expand=True)",
        "image = image.rotate(90, expand=True)\n```",
        "~~~python\nimage = image.rotate(90, expand=True)\n~~~",
        "```python image = image.rotate(90, expand=True)```",
        "I turn it:\n```python\nimage = image.rotate(90, expand=True)\n```\nNow it's upright.",
        "<code>\nimage = image.rotate(90, expand=True)\n</code>",
        "\ufeff```python\r\nimage = image.rotate(90, expand=True)\r\n```",
        "\ufeffimage = image.rotate(90, expand=True)",
        "image = image.rotate(90,\u00a0expand=True)",
        "if True:\n\u00a0\u00a0image = image.rotate(90, expand=True)",
        "image\u200b = image.rotate(90, expand=True)",
        "\u3000image = image.rotate(90, expand=True)",
        "x = 1\u2028image = image.rotate(90, expand=True)",
        "  x = 1\n  image = image.rotate(90, expand=True)",
        "x = 1\\nimage = image.rotate(90, expand=True)",
        "if True:\\n\\timage = image.rotate(90, expand=True)",
        's = \\"a\\"\\nimage = image.rotate(90, expand=True)',
        "s = 'a\\nb'\\nassert len(s) == 3\\nimage = image.rotate(90, expand=True)",
        "```python\\nimage = image.rotate(90, expand=True)\\n```",
        "%matplotlib inline\n!pip install numpy\nimage = image.rotate(90, expand=True)",
        ">>> image = image.rotate(\n...     90, expand=True)",
        "<code>image = image.rotate(90, expand=True)</code>",
        "image = image.rotate(90, expand=True)</tool_call>",
        "```python\n%matplotlib inline\nimage = image.rotate(90, expand=True)\n```",
    ],
)
def test_text_around_and_in_code_that_is_no_code_is_left_out(run: Run, code: str) -> None:
    result = run(code, IMAGE)
    assert result.status is ExecStatus.OK, result.detail
    assert result.images[0].tobytes() == TURNED.tobytes()
    visible = "```" in code or "~~~" in code or "\\n" in code or any(mark in code for mark in ("</", "%", ">>>"))
    assert bool(result.detail) == visible


def test_what_a_notebook_displays_is_shown(run: Run) -> None:
    pytest.importorskip("IPython")
    result = run(f"from IPython.display import display\ndisplay({CUT})", IMAGE)
    assert result.images[0].tobytes() == CROP.tobytes()
    assert result.detail.startswith("what was shown")


@pytest.mark.parametrize(
    "code", ["s = '```\\n'", "s = 'a\u00a0b'", "s = r'\\n'", "# ```python\nx = 1", "x = '''\n```python\n'''"]
)
def test_code_that_compiles_is_not_changed(code: str) -> None:
    source = read_source(code)
    assert (source.text, source.note) == (code, "")


def test_code_that_no_mending_helps_keeps_its_own_error(run: Run) -> None:
    result = run("```python\nimage = (\n```")
    assert result.status is ExecStatus.ERROR
    assert result.detail.startswith("SyntaxError: ")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("cv2.imread('a.png')", "cv2.imread failed: files are out of reach, the image is in `image`"),
        ("from cv2 import imread\nimread('a.png')", "cv2.imread failed"),
        (
            "cv2.imwrite('/tmp/a.png', np.array(image)[:9])",
            "cv2.imwrite failed: files can't be written, assign the image to `image`",
        ),
        ("cv2.VideoCapture('a.mp4').read()", "cv2.VideoCapture failed: files are out of reach"),
        ("import os\nos.path.exists('a.png')", "os.path.exists failed: files are out of reach"),
        ("import glob\nglob.glob('*.png')", "glob.glob failed: files are out of reach"),
        ("a = cv2.imread('a.png')\na.shape", "(line 2: a.shape); cv2.imread failed: files are out of reach"),
        ("open('a.txt', 'w')", "nothing can be saved, assign the image to `image`"),
        ('with open("/tmp/a.png","wb") as file:\n    image.save(file)', "nothing can be saved"),
        ("open('a.txt', mode='a')", "nothing can be saved"),
        ("ImageFont.truetype('arial.ttf', 20)", "use ImageFont.load_default(size=20)"),
        ("cv2.circle(np.array(image)[::-1], (1, 1), 1, 0)", "Layout of the output array img is incompatible"),
        ("cv2.circle(np.array(image)[::-1], (1, 1), 1, 0)", "; give cv2 np.ascontiguousarray(array)"),
        ("cv2.flip(image, 1)", "; give cv2 np.array(image)"),
        ("cv2.resize(np.array(image)[90:], (9, 9))", "the array is empty, a slice lies outside of the image"),
        ("np.array(image).rotate(90)", "use Image.fromarray(array)"),
        ("image.shape", "use np.array(image)"),
        ("import skimage", "there are PIL, numpy, cv2, matplotlib and the standard library"),
        ("plt.show()", "write import matplotlib.pyplot as plt"),
        ("original_image.rotate(90)", "the image is in `image`, all images are in the list `images`"),
        ("python\nimage = image.rotate(90)", "begin with the code itself"),
        ("Image.fromarray(np.zeros((9, 9, 3)))", "give Image.fromarray an array of np.uint8"),
        ("image.resize(20, 20)", "write resize((width, height))"),
        ("image.close()", "don't close the image"),
        ("return image", "assign the result to `image`"),
        ("raise ValueError('first\\n\\n  second')", "ValueError: first; second (line 1: "),
        ("cv2.circle(" + "1, " * 200 + ")", ""),
    ],
)
def test_a_refusal_and_an_error_name_the_reason_and_the_way_on(run: Run, code: str, hint: str) -> None:
    detail = run(code).detail
    assert hint in detail
    assert len(detail) <= 400


def test_libraries_that_look_for_files_leave_no_note(run: Run) -> None:
    code = "import matplotlib.pyplot as plt\nfig = plt.figure()\nfig.text(0, 0, 'a')\nimage = fig"
    result = run(code)
    assert (result.status, result.detail) == (ExecStatus.OK, "")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("(500, 500, 700, 700)", "lies outside of the image, which is 40x30 pixels"),
        ("(-20, 0, -5, 9)", "lies outside of the image, which is 40x30 pixels"),
        ("[40, 0, 50, 9]", "lies outside of the image, which is 40x30 pixels"),
        ("(0.1, 0.2, 0.6, 0.7)", "must be in pixels of the image, which is 40x30 pixels"),
        ("(0, 0, 1.0, 0.5)", "must be in pixels of the image, which is 40x30 pixels"),
        ("tuple(np.array([0.1, 0.2, 0.6, 0.7]))", "must be in pixels of the image, which is 40x30 pixels"),
        ("(30, 5, 10, 9)", "a crop is (left, top, right, bottom): left 30 is more than right 10"),
        ("(np.float32(0.1), np.float32(0.2), np.float32(0.6), 1)", "must be in pixels of the image"),
        ("(10, 10, 20)", "a crop is (left, top, right, bottom), four numbers"),
        ("(1, 2, 3, 4, 5)", "a crop is (left, top, right, bottom), four numbers"),
        ("('1', '2', '30', '20')", "a crop is (left, top, right, bottom), four numbers"),
        ("(None, None, 9, 9)", "a crop is (left, top, right, bottom), four numbers"),
        ("(float('nan'), 0, 9, 9)", "a crop is (left, top, right, bottom), four numbers"),
        ("7", "a crop is (left, top, right, bottom), four numbers"),
        ("10, 10, 20, 20", "write crop((left, top, right, bottom)), with two pairs of brackets"),
        ("box((1, 2, 30, 20))", "TypeError: box() missing"),
        ("box([1, 2, 30, 20])", "write box(x1, y1, x2, y2), four numbers without further brackets"),
        ("point((1, 2))", "write point(x, y), two numbers without further brackets"),
        ("(3, 25, 10, 9)", "a crop is (left, top, right, bottom): top 25 is more than bottom 9"),
    ],
)
def test_a_crop_that_can_t_be_meant_is_an_error_that_names_the_coordinates(run: Run, box: str, reason: str) -> None:
    result = run(f"image = image.crop({box})")
    assert result.status is ExecStatus.ERROR
    assert reason in result.detail


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("image = image.crop((20, 10, 120, 60))", "the crop (20, 10, 120, 60) reaches outside of the image"),
        ("image = image.crop((-1, 0, 41, 30))", ""),
        ("image = image.crop((0, 0, 1, 1))", ""),
        ("image = image.crop((3.2, 4.5, 20.1, 9.9))", ""),
        ("image = image.crop(np.array([3, 4, 20, 9]))", ""),
        ("image = image.crop(box('3', '4', '20', '9'))", ""),
        ("image = image.crop(box(5, 5, 90, 20))", "the box was cut at the edge of the image, which is 40x30"),
        ("image = image.crop(box(5, 5, 41, 20))", ""),
        ("image = ImageOps.crop(image, 3)", ""),
    ],
)
def test_a_crop_over_the_edge_is_noted_and_one_within_is_not(run: Run, code: str, note: str) -> None:
    result = run(code)
    assert result.status is ExecStatus.OK, result.detail
    assert result.detail.startswith(note)
    assert bool(result.detail) == bool(note)


def test_more_images_than_come_back_are_noted() -> None:
    with Sandbox(Limits(max_pixels=1000), live=1) as small:
        result = small.run(
            ExecRequest(code="image = [image.crop((0, 0, n, 2)) for n in range(1, 21)]", images=(IMAGE,))
        )
    assert (len(result.images), result.detail) == (16, "of 20 images the first 16 were taken")
