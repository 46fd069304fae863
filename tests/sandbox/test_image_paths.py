"""Code that opens and saves images by path runs unchanged, and no file is touched."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import Run, noise

from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory, paths_in
from codevision_ext.sandbox import ExecRequest, ExecResult, Sandbox
from codevision_ext.sandbox.protocol import EarlierCall
from codevision_ext.types import ExecStatus, ToolCall

IMAGE = noise(40, 30)
PLT = "import matplotlib.pyplot as plt\n"
CROP = "Image.open(image_path).crop((0, 0, 9, 9))"
SMALL = IMAGE.crop((0, 0, 9, 9))


def same(result: ExecResult, *images: Image.Image) -> None:
    assert result.status is ExecStatus.OK, result.detail
    assert [(image.size, image.tobytes()) for image in result.images] == [
        (image.size, image.tobytes()) for image in images
    ]


@pytest.mark.parametrize(
    "code",
    [
        "from PIL import Image\nimg = Image.open(image_path)\nimg.crop((0, 0, 9, 9)).save(processed_path)",
        "with Image.open(image_path) as img:\n    part = img.crop((0, 0, 9, 9))\npart.save(processed_path)",
        "img = cv2.imread(image_path)\ncv2.imwrite(processed_path, img[:9, :9])",
        "img = cv2.imread(image_path, cv2.IMREAD_UNCHANGED)\n"
        "assert cv2.imwrite(filename=processed_path, img=img[:9, :9])",
        PLT + "img = plt.imread(image_path)\nplt.imsave(processed_path, img[:9, :9])",
        "import matplotlib.image as mpimg\nimg = mpimg.imread(image_path)\nmpimg.imsave(processed_path, img[:9, :9])",
        "import io\nwith open(image_path, 'rb') as file:\n    data = file.read()\n"
        "Image.open(io.BytesIO(data)).crop((0, 0, 9, 9)).save(processed_path)",
        "data = np.fromfile(image_path, np.uint8)\ncv2.imwrite(processed_path, cv2.imdecode(data, 1)[:9, :9])",
        "from pathlib import Path\nImage.open(Path(image_path)).crop((0, 0, 9, 9)).save(Path(processed_path))",
        "import base64, io\nfrom pathlib import Path\nb = base64.b64encode(Path(image_path).read_bytes())\n"
        "Image.open(io.BytesIO(base64.b64decode(b))).crop((0, 0, 9, 9)).save(processed_path)",
        f"with open(processed_path, 'wb') as file:\n    {CROP}.save(file, format='PNG')",
        f"data = cv2.imencode('.png', np.array({CROP})[:, :, ::-1])[1].tobytes()\nopen('a.png', 'wb').write(data)",
        "import os\nname = os.path.join(os.path.dirname(image_path), 'part.png')\n"
        "os.makedirs(os.path.dirname(name), exist_ok=True)\n" + f"{CROP}.save(name)",
        f"import os\nos.makedirs('made/here', exist_ok=True)\n{CROP}.save('made/here/part.jpg', quality=95)",
        f"{CROP}.save(f'{{image_path[:-4]}}_part.png')",
        f"def main():\n    part = {CROP}\n    part.save(processed_path)\n    print(processed_path)\nmain()",
        f"image = {CROP}\nimage.save('a.png')",
        "image = image.crop((0, 0, 9, 9))\nimage.save('a.png')",
        "cv2.imwrite('a.png', np.array(image)[:9, :9, ::-1])",
        "draw.point((30, 20))\nimage.crop((0, 0, 9, 9)).save('a.png', 'PNG', optimize=True)",
    ],
)
def test_published_ways_to_open_and_save_an_image_bring_it_back(run: Run, code: str) -> None:
    result = run(code, IMAGE)
    same(result, SMALL)
    assert result.detail == ""


def test_a_figure_comes_back_in_the_size_that_matplotlib_makes_it(run: Run) -> None:
    draw = PLT + "img = plt.imread(image_path)\nplt.imshow(img)\nplt.plot([3, 30], [3, 20], 'r-')\nplt.axis('off')\n"
    for end in ("plt.show()", "plt.savefig(processed_path)", "plt.gcf().savefig(processed_path)\nplt.close()"):
        result = run(draw + end, IMAGE)
        assert result.status is ExecStatus.OK, result.detail
        assert [image.size for image in result.images] == [(640, 480)]
        assert result.detail == ""
        red = np.asarray(result.images[0]).astype(int)
        assert ((red[..., 0] > 240) & (red[..., 1] < 20) & (red[..., 2] < 20)).sum() > 200
    tight = run(draw + "plt.savefig(processed_path, dpi=50, bbox_inches='tight', pad_inches=0)\nplt.show()", IMAGE)
    assert len(tight.images) == 1
    assert tight.images[0].size != (640, 480)


def test_paths_are_plain_texts_that_functions_of_paths_understand(run: Run) -> None:
    code = (
        "import os\nfrom pathlib import Path\n"
        "print(type(image_path) is str, os.path.exists(image_path), os.path.isfile(image_path))\n"
        "print(os.path.isdir(os.path.dirname(image_path)), os.path.getsize(image_path) > 9)\n"
        "print(os.path.basename(image_path), os.path.splitext(image_path)[1], Path(image_path).suffix)\n"
        "print(os.path.abspath(image_path) == image_path, os.path.exists(processed_path), f'<{processed_path}>')\n"
        "image.save(processed_path)\nprint(os.path.exists(processed_path))"
    )
    lines = run(code, IMAGE).stdout.splitlines()
    assert lines == [
        "True True True",
        "True True",
        "image_0.png .png .png",
        "True False </images/processed.png>",
        "True",
    ]


def test_every_image_of_a_call_has_a_path_and_image_path_is_the_current_one(run: Run) -> None:
    code = "print(image_paths.index(image_path))\nfor path in image_paths:\n    print(Image.open(path).size)"
    result = run(code, noise(8, 9), noise(10, 11, 1), index=1)
    assert result.stdout.splitlines() == ["1", "(8, 9)", "(10, 11)"]


@pytest.mark.parametrize(
    "path", ["/data/set/x 1.jpg", "./x 1.jpg", "x 1.jpg", "/data/set/../set/x 1.jpg", "/images/image_0.png"]
)
def test_the_path_of_the_row_opens_its_image(sandbox: Sandbox, path: str) -> None:
    code = f"image_path = {path!r}\nimg = Image.open(image_path)\nimg.crop((0, 0, 9, 9)).save('/data/set/y.png')"
    same(sandbox.run(ExecRequest(code=code, images=(IMAGE,), paths=("/data/set/x 1.jpg",))), SMALL)


def test_arrays_are_those_that_matplotlib_reads_from_a_file_of_that_name(sandbox: Sandbox) -> None:
    code = PLT + "for p in ('a.png', 'b.jpg'):\n    x = plt.imread(p)\n    print(x.dtype, x.shape, x.max() <= 1)"
    result = sandbox.run(ExecRequest(code=code, images=(IMAGE, IMAGE), paths=("a.png", "b.jpg")))
    assert result.stdout.splitlines() == ["float32 (30, 40, 3) True", "uint8 (30, 40, 3) False"]


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("Image.open('other.png')", "the code can open '/images/image_0.png'"),
        (PLT + "plt.imread('/data/other.png')", "the code can open '/images/image_0.png'"),
        ("open('/data/other.png', 'rb')", "the code can open '/images/image_0.png'"),
        ("Image.open(processed_path)", "the code can open '/images/image_0.png'"),
        (
            "image_path = 'other.png'\ncv2.imread(image_path).shape",
            "files are out of reach, the image is in `image`; it can open '/images/image_0.png'",
        ),
    ],
)
def test_an_unknown_path_is_an_error_that_says_which_names_there_are(run: Run, code: str, known: str) -> None:
    result = run(code, IMAGE)
    assert result.status in (ExecStatus.DENIED, ExecStatus.ERROR)
    assert known in result.detail


@pytest.mark.parametrize(
    ("code", "images"),
    [
        (f"{CROP}.save(processed_path)\nImage.open(processed_path).load()", [SMALL]),
        (
            f"{CROP}.save('a.png')\nx = Image.open('a.png')\nx.crop((0, 0, 4, 4)).save('b.png')",
            [SMALL.crop((0, 0, 4, 4))],
        ),
        (f"{CROP}.save('a.png')\nx = cv2.imread('a.png')\ncv2.imwrite('a.png', x[:4, :4])", [SMALL.crop((0, 0, 4, 4))]),
        (f"{CROP}.save('a.png')\nprint(Image.open('a.png').size)", [SMALL]),
        (f"{CROP}.save('a.png')\n{CROP}.crop((0, 0, 4, 4)).save('b.png')", [SMALL, SMALL.crop((0, 0, 4, 4))]),
        (f"{CROP}.save('a.png')\nImage.open(image_path).save('a.png')", [IMAGE]),
        (f"{CROP}.save('a.png')\nimage = Image.open(image_path)", [SMALL]),
        (f"{CROP}.save('a.png')\nimage = image.crop((0, 0, 4, 4))", [SMALL]),
        ("image.crop((0, 0, 9, 9)).save('a.png')\nimage = image.crop((0, 0, 4, 4))", [IMAGE.crop((0, 0, 4, 4)), SMALL]),
        ("image.crop((0, 0, 9, 9)).save('a.png')\nimage = image.convert('RGB')", [SMALL]),
        ("image.crop((0, 0, 9, 9)).save(processed_path)\nimage = image.crop((0, 0, 4, 4))", [SMALL]),
        ("image.crop((0, 0, 9, 9)).save('a.png')\nother = image.crop((0, 0, 4, 4))", [SMALL]),
        (f"{CROP}.show()\nimage = image.crop((0, 0, 4, 4))", [SMALL]),
        ("image = Image.open(image_path).crop((0, 0, 9, 9))", [SMALL]),
        ("img = Image.open(image_path)\nprint(img.size)", [IMAGE]),
        ("img = cv2.imread(image_path)\nprint(img.shape)", [IMAGE]),
        (
            f"processed_path = '/images/mine.png'\n{CROP}.save(processed_path)\nImage.open(processed_path).load()",
            [SMALL],
        ),
    ],
)
def test_one_rule_says_which_images_come_back_and_in_which_order(
    run: Run, code: str, images: list[Image.Image]
) -> None:
    result = run(code, IMAGE)
    assert result.status is ExecStatus.OK, result.detail
    if images == [IMAGE]:
        assert [image.size for image in result.images] == [IMAGE.size]
    else:
        same(result, *images)


def test_transparency_and_grey_survive_saving_and_opening_again(run: Run) -> None:
    code = (
        "a = Image.new('RGBA', (4, 4), (1, 2, 3, 0))\na.save('a.png')\nprint(Image.open('a.png').mode)\n"
        "Image.new('L', (4, 4), 9).save('b.png')\nprint(Image.open('b.png').mode, cv2.imread('b.png').shape)\n"
        "Image.new('F', (4, 4), 9.0).save('c.tif')\nprint(Image.open('c.tif').size)\n"
        "cv2.imwrite('d.png', np.full((4, 4, 4), 7, np.uint8))\nprint(cv2.imread('d.png', -1).shape)\n"
        "cv2.imwrite('e.png', np.full((4, 4), 300.7))\nprint(cv2.imread('e.png', 0)[0, 0])"
    )
    assert run(code).stdout.splitlines() == ["RGBA", "L (4, 4, 3)", "(4, 4)", "(4, 4, 4)", "255"]


@pytest.mark.parametrize("folder", ["/tmp", "/elsewhere", "/images/../etc", "../up", "/images/further"])
def test_an_image_that_is_saved_to_another_folder_is_not_lost(run: Run, folder: str) -> None:
    name = f"{folder}/codevision_test_files.png"
    for code in (f"{CROP}.save({name!r})\nprint('not reached')", f"part = {CROP}\npart.save({name!r})"):
        result = run(code, IMAGE)
        same(result, SMALL)
        assert "the code ended where it saved to" in result.detail
        assert "save to `processed_path`" in result.detail
        assert result.stdout == ""
    code = f"a = cv2.imread(image_path)[:9, :9]\nprint(cv2.imwrite({name!r}, a))"
    result = run(code, IMAGE)
    same(result, SMALL)
    assert result.stdout == "False\n"
    assert not Path("/tmp/codevision_test_files.png").exists()


def test_a_later_call_finds_the_image_of_an_earlier_one_at_processed_path(sandbox: Sandbox) -> None:
    tool = CodeTool(sandbox)
    history = ImageHistory([IMAGE], paths=["/data/x.png"])
    tool.call(history, ToolCall(code="Image.open('/data/x.png').crop((0, 0, 9, 9)).save(processed_path)"))
    assert history.paths == ["/data/x.png", "/images/processed.png"]
    code = (
        "a = Image.open(processed_path)\na.crop((0, 0, 5, 5)).save(processed_path)\nprint(Image.open(image_path).size)"
    )
    result = tool.call(history, ToolCall(code=code)).result
    same(result, SMALL.crop((0, 0, 5, 5)))
    assert result.stdout == "(40, 30)\n"


def test_names_that_an_earlier_call_saved_to_last_where_variables_do(sandbox: Sandbox) -> None:
    earlier = EarlierCall(code=f"{CROP}.save('a.png')", image_index=0, images=1)
    result = sandbox.run(
        ExecRequest(code="Image.open('a.png').crop((0, 0, 4, 4)).save('b.png')", images=(IMAGE,), earlier=(earlier,))
    )
    same(result, SMALL.crop((0, 0, 4, 4)))


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("img = cv2.imread(image_path)", "print(type(img).__name__, type(image).__name__)", "ndarray Image"),
        ("img = np.array(image)", "print(type(img).__name__)", "Image"),
        ("image = Image.open(image_path).crop((0, 0, 9, 9))", "print(image.size)", "(9, 9)"),
        ("image = image.crop((0, 0, 9, 9))", "print(image.size)", "(40, 30)"),
    ],
)
def test_image_and_img_are_the_code_s_own_once_it_opened_its_image_by_path(
    sandbox: Sandbox, first: str, second: str, kept: str
) -> None:
    earlier = EarlierCall(code=first, image_index=0, images=1)
    result = sandbox.run(ExecRequest(code=second, images=(IMAGE,), earlier=(earlier,)))
    assert result.stdout == f"{kept}\n"
    same(result, IMAGE)


def test_a_call_without_an_image_can_save_one(sandbox: Sandbox) -> None:
    result = sandbox.run(ExecRequest(code="Image.new('RGB', (4, 4), 'red').save(processed_path)", images=()))
    same(result, Image.new("RGB", (4, 4), "red"))


def test_a_request_has_a_path_for_every_image_or_none() -> None:
    with pytest.raises(InputError, match="paths has 1 items, but there are 2 images"):
        ExecRequest(code="", images=(IMAGE, IMAGE), paths=("a.png",))


def test_the_paths_in_a_prompt_are_those_of_its_images() -> None:
    text = "How long?\nimage_path = '/data/x 1.png'\nimage_path_2=\"b.jpg\""
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "image_path = 'no.png'"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]},
    ]
    assert paths_in(messages) == ["/data/x 1.png", "b.jpg"]
    assert ImageHistory([IMAGE], paths=["a.png", "b.png"]).paths == ["a.png"]
    assert ImageHistory([IMAGE, IMAGE], paths=["a.png"]).paths == ["a.png", ""]


def test_the_bytes_of_an_image_are_those_of_a_file(run: Run) -> None:
    result = run("import base64\nprint(base64.b64encode(open(image_path, 'rb').read()).decode())", noise(8, 6))
    data = base64.b64decode(result.stdout)
    assert Image.open(io.BytesIO(data)).tobytes() == noise(8, 6).tobytes()
