"""What a call does to the history, what the model is told, and what the record keeps."""

import asyncio

import pytest
from scenes import noise, scene

from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import OBSERVATIONS, TOOL_SCHEMA, CodeTool, ToolResult
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import Box, CoordinateSystem, ExecStatus, Orientation, Step, ToolCall


@pytest.fixture
def history() -> ImageHistory:
    return ImageHistory([noise(100, 80)])


@pytest.fixture
def tool(sandbox: Sandbox) -> CodeTool:
    return CodeTool(sandbox, max_text_chars=120)


def test_there_is_one_observation_for_every_outcome() -> None:
    assert set(OBSERVATIONS) == {*map(str, ExecStatus), "noop", "repeat", "left_out", "note", "empty"}


def test_the_schema_names_what_a_call_has() -> None:
    function = TOOL_SCHEMA["function"]
    assert function["name"] == "code_image_tool"
    assert set(function["parameters"]["properties"]) == {"code", "description", "image_index"}
    assert function["parameters"]["required"] == ["code"]
    assert ToolCall(code="").image_index == 0


def test_a_new_image_gets_the_next_index(tool: CodeTool, history: ImageHistory) -> None:
    seen = tool.call(history, ToolCall(code="print('hi')\nimage = image.rotate(90, expand=True)"))
    assert seen.text == "Picture 1: 80x100.\nhi"
    assert seen.image is history.images[1]
    assert seen.step == Step(
        ok=True,
        ops=("rotate_90",),
        node=1,
        parent=0,
        net=Orientation.R90,
        region=Box(0, 0, 100, 80),
        status=ExecStatus.OK,
        isolation=seen.step.isolation,
    )


def test_orientation_and_region_are_told_of_the_input(tool: CodeTool) -> None:
    history = ImageHistory([scene(1000, 800)])
    tool.call(history, ToolCall(code="image = image.crop((600, 50, 800, 350))"))
    tool.call(history, ToolCall(code="image = image.rotate(270, expand=True)", image_index=1))
    step = tool.call(history, ToolCall(code="image = image.crop((50, 100, 250, 120))", image_index=2)).step
    assert (step.node, step.parent, step.net) == (3, 2, Orientation.R270)
    assert step.region == Box(700, 100, 720, 300)
    assert step.crops == (Box(50, 100, 250, 120),)


def test_a_crop_of_a_zoomed_crop_is_told_of_the_input(tool: CodeTool) -> None:
    history = ImageHistory([scene(400, 320)])
    tool.call(history, ToolCall(code="image = image.crop((100, 80, 300, 240)).resize((400, 320))"))
    step = tool.call(history, ToolCall(code="image = image.crop((0, 0, 100, 80))", image_index=1)).step
    assert step.region == pytest.approx(Box(100, 80, 150, 120), abs=1)


def test_doing_nothing_is_said_and_adds_no_image(tool: CodeTool, history: ImageHistory) -> None:
    seen = tool.call(history, ToolCall(code="image = image.copy()"))
    assert (seen.text, seen.image) == (OBSERVATIONS["noop"], None)
    assert (seen.step.ok, seen.step.noop, seen.step.node) == (True, True, None)
    assert len(history.images) == len(history.nodes) == 1


def test_a_failed_call_is_explained_and_adds_no_image(tool: CodeTool, history: ImageHistory) -> None:
    seen = tool.call(history, ToolCall(code="image = imag"))
    assert seen.text == "Error: NameError: name 'imag' is not defined (line 1: image = imag)"
    assert seen.step == Step(ok=False, parent=0, status=ExecStatus.ERROR, isolation=seen.step.isolation)
    assert len(history.images) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("box(9, 0, 9, 5)", "x1 must be less than x2, they are 9 and 9"),
        ("box(0, 0, 9, 'a')", "y2 must be a number, it is 'a'"),
        ("point(1, 2, index=1)", "index must be from 0 to 0, it is 1"),
    ],
)
def test_coordinates_that_are_none_are_explained_in_the_model_s_own_line(
    tool: CodeTool, history: ImageHistory, code: str, said: str
) -> None:
    assert tool.call(history, ToolCall(code=code)).text == f"Error: ValueError: {said} (line 1: {code})"


def test_each_call_writes_in_the_frame_of_its_own_image_the_earlier_ones_that_run_again_too(sandbox: Sandbox) -> None:
    tool = CodeTool(sandbox, keep_variables=True)
    history = ImageHistory([scene(400, 320)], lambda image: image.resize((100, 100)), CoordinateSystem.SEEN)
    tool.call(history, ToolCall(code="first = box(0, 0, 50, 50)\nimage = image.crop(first)"))
    seen = tool.call(history, ToolCall(code="print(first, box(0, 0, 50, 50), point(99, 50, 0))", image_index=1))
    assert history.images[1].size == (200, 160)
    assert seen.result.stdout == "(0, 0, 200, 160) (0, 0, 100, 80) (396, 160)\n"


def test_what_comes_after_an_unknown_step_is_unknown(tool: CodeTool, history: ImageHistory) -> None:
    assert tool.call(history, ToolCall(code="image = image.rotate(30)")).step.net is None
    step = tool.call(history, ToolCall(code="image = image.rotate(90, expand=True)", image_index=1)).step
    assert (step.ops, step.net, step.region) == (("rotate_90",), None, None)


def test_images_of_the_second_input_are_told_of_the_second_input(tool: CodeTool) -> None:
    history = ImageHistory([noise(20, 20, 1), noise(30, 20, 2)])
    seen = tool.call(history, ToolCall(code="image = image.crop((5, 5, 15, 15))", image_index=1))
    assert (seen.step.node, seen.step.parent, history.nodes[2].root) == (2, 1, 1)


@pytest.mark.parametrize(
    "said", ["<|im_end|>", "<image>", "</tool_response>", "<tool_call>", "<video>", "\0", "\x1b[2J"]
)
def test_code_cannot_speak_in_special_tokens(tool: CodeTool, history: ImageHistory, said: str) -> None:
    for code in (f"print({said!r})", f"raise ValueError({said!r})"):
        assert said not in tool.call(history, ToolCall(code=code)).text


def test_braces_in_what_the_code_says_stay_braces(tool: CodeTool, history: ImageHistory) -> None:
    seen = tool.call(history, ToolCall(code="print('{node} {detail}')\nraise ValueError('{wall_s}')"))
    assert "{node} {detail}" in seen.text
    assert "{wall_s}" in seen.text


def test_equal_code_is_answered_equally_by_every_sandbox(history: ImageHistory) -> None:
    code = "import random\nprint({str(number) for number in range(9)}, image, random.random())\nraise ValueError(image)"
    texts = set()
    for _ in range(3):
        with Sandbox(Limits(wall_s=20.0)) as sandbox:
            texts.add(CodeTool(sandbox, 9999).call(history, ToolCall(code=code, image_index=0)).text)
    (text,) = texts
    assert text.count(" at 0x..>") == 2


def test_text_for_the_model_is_bounded(tool: CodeTool, history: ImageHistory) -> None:
    text = tool.call(history, ToolCall(code="print('x' * 5000)\nraise ValueError('y' * 5000)")).text
    assert len(text) < 2 * 120 + 60


def test_an_index_off_the_desk_is_our_fault(tool: CodeTool, history: ImageHistory) -> None:
    with pytest.raises(InputError, match="image_index is 1"):
        tool.call(history, ToolCall(code="pass", image_index=1))


def test_a_image_made_from_another_one_has_that_parent(tool: CodeTool, history: ImageHistory) -> None:
    tool.call(history, ToolCall(code="image = image.crop((10, 10, 60, 50))"))
    step = tool.call(history, ToolCall(code="image = images[0].rotate(180)", image_index=1)).step
    assert (step.parent, step.net, step.region) == (0, Orientation.R180, Box(0, 0, 100, 80))
    step = tool.call(history, ToolCall(code="image = images[0].copy()", image_index=2)).step
    assert (step.parent, step.noop, step.node) == (0, True, None)


def test_a_call_that_repeats_an_earlier_one_is_told_which_image_it_is(tool: CodeTool, history: ImageHistory) -> None:
    turn = ToolCall(code="image = image.rotate(90, expand=True)")
    tool.call(history, turn)
    seen = tool.call(history, turn)
    assert (seen.text, seen.images) == ("This is picture 1 again.", ())
    assert (seen.step.noop, seen.step.parent, len(history.images)) == (True, 1, 2)


async def test_several_images_are_all_kept_each_with_its_index_and_its_provenance(tool: CodeTool) -> None:
    history = ImageHistory([scene(400, 320)])
    code = (
        "image = [image.crop((0, 0, 200, 160)), images[0], ImageEnhance.Contrast(image.rotate(90, expand=True))"
        ".enhance(1.3), image.crop((0, 0, 200, 160))]"
    )
    seen = await tool.acall(history, ToolCall(code=code))
    assert seen.text == "Picture 1: 200x160.\nPicture 2: 320x400."
    assert seen.images == tuple(history.images[1:])
    assert [image.node for image in seen.step.images] == [1, 2]
    assert [image.net for image in seen.step.images] == [Orientation.ID, Orientation.R90]
    assert [image.parent for image in seen.step.images] == [0, 0]
    assert [image.region for image in seen.step.images] == [Box(0, 0, 200, 160), Box(0, 0, 400, 320)]
    step = (await tool.acall(history, ToolCall(code="image = image.rotate(270, expand=True)", image_index=2))).step
    assert (step.node, step.parent, step.net) == (3, 2, Orientation.ID)


def test_more_images_than_a_call_may_add_are_left_out_and_the_model_is_told(sandbox: Sandbox) -> None:
    tool, history = CodeTool(sandbox, images_per_call=2), ImageHistory([noise(100, 80)])
    seen = tool.call(history, ToolCall(code="image = [image.crop((0, 0, n, 9)) for n in range(1, 6)]"))
    assert seen.text == ("Picture 1: 1x9.\nPicture 2: 2x9.\nLeft out: 3 more, because a call adds at most 2.")
    assert len(history.images) == len(history.nodes) == 3
    seen = tool.call(history, ToolCall(code="image = [image.crop((0, 0, n, 9)) for n in range(1, 20)]", image_index=2))
    assert "of 19 images the first 16 were taken" in seen.text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "cropped = image.crop((0, 0, 9, 9))",
            "Picture 1: 9x9.\nNote: `cropped` was taken as the result: assign it to `image`.",
        ),
        (
            "cv2.imwrite('/tmp/a.png', np.array(image))",
            "Note: cv2.imwrite failed: files can't be written, assign the image to `image`.",
        ),
        ("a = image.crop((0, 0, 9, 9))\nb = a.rotate(9)\nc = a.copy()", "not handed back: `b`, `c`; assign an image"),
        (
            "image = image.crop((5, 5, 5, 9))",
            "The new picture is empty: its size is 0x4. Cut it in pixels of `image`, which is 100x80.",
        ),
        ("result = 5", "the result is of type int. Assign a PIL image or an array to `image`."),
        (
            "ImageFont.truetype('a.ttf', 20)",
            "use ImageFont.load_default(size=20). Files, network, processes and threads",
        ),
        ("def f(p): return p.rotate(90)", "assign the new picture to `image`.\nNote: `f` was never called."),
    ],
)
def test_the_model_is_told_how_to_go_on(tool: CodeTool, history: ImageHistory, code: str, text: str) -> None:
    long = CodeTool(tool._sandbox)
    assert text in long.call(history, ToolCall(code=code)).text


def test_every_image_that_is_there_already_is_told(tool: CodeTool, history: ImageHistory) -> None:
    cut, turned = "image.crop((0, 0, 9, 9))", "image.rotate(90, expand=True)"
    tool.call(history, ToolCall(code=f"image = [{cut}, {turned}]"))
    texts = {
        f"image = [{cut}, {turned}]": "This is picture 1 again.\nThis is picture 2 again.",
        f"image = [{cut}, image.rotate(180)]": "Picture 3: 100x80.\nThis is picture 1 again.",
        f"image = [image, {turned}, {turned}]": "This is picture 2 again.",
        "image = [image]": OBSERVATIONS["noop"],
    }
    assert {code: tool.call(history, ToolCall(code=code)).text for code in texts} == texts


def test_a_result_that_is_no_image_is_told_why(sandbox: Sandbox, history: ImageHistory) -> None:
    tool = CodeTool(sandbox)
    texts = {
        "image = cv2.imread('image.png')": "No picture came back: assign one to `image`.\n"
        "Note: cv2.imread failed: files are out of reach, the image is in `image`.",
        "image = np.stack([np.array(image)] * 2)": "Not a picture that can be shown: the result is an array of shape "
        "(2, 80, 100, 3). Assign a PIL image or an array to `image`.",
        "image = []": "Not a picture that can be shown: the result is of type list, and it is empty. "
        "Assign a PIL image or an array to `image`.",
        "image = [[image.rotate(90)]]": "Not a picture that can be shown: the result is of type list, and its item 0 "
        "of type list. Assign a PIL image or an array to `image`.",
    }
    assert {code: tool.call(history, ToolCall(code=code)).text for code in texts} == texts


def test_a_crop_outside_of_the_image_names_the_coordinates_that_the_model_writes(sandbox: Sandbox) -> None:
    history = ImageHistory([scene(400, 320)], coordinates=CoordinateSystem.RELATIVE)
    seen = CodeTool(sandbox).call(history, ToolCall(code="image = image.crop((500, 500, 900, 900))"))
    assert "which is 400x320 pixels; box() turns x from 0 to 1000 and y from 0 to 1000 into pixels" in seen.text
    seen = CodeTool(sandbox).call(history, ToolCall(code="image = image.crop(box(500, 500, 1900, 900))"))
    assert seen.text == "Picture 1: 1000x1000.\nNote: the box was cut at the edge of the image, which is 1000x1000."


async def test_the_model_goes_on_while_a_call_is_traced(tool: CodeTool) -> None:
    history = ImageHistory([scene(400, 320)])
    codes = [
        "image = ImageEnhance.Contrast(image.rotate(90, expand=True)).enhance(1.3)",
        "image = image.crop((20, 40, 220, 240))",
        "image = imag",
        "image = image.resize((400, 400))",
    ]
    begun = [
        await tool.begin(history, ToolCall(code=code, image_index=min(place, 2))) for place, code in enumerate(codes)
    ]
    assert not begun[0].step.done()
    steps = [await call.step for call in begun]
    assert [step.node for step in steps] == [1, 2, None, 3]
    assert [step.net for step in steps] == [Orientation.R90, Orientation.R90, None, Orientation.R90]
    assert steps[3].region == pytest.approx(Box(160, 20, 360, 220), abs=1.5)
    assert [begun[place].text for place in (0, 1, 3)] == [
        "Picture 1: 320x400.",
        "Picture 2: 200x200.",
        "Picture 3: 400x400.",
    ]


async def test_calls_of_several_desks_run_side_by_side(tool: CodeTool) -> None:
    async def one(seed: int) -> ToolResult:
        return await tool.acall(
            ImageHistory([noise(20, 10, seed)]), ToolCall(code=f"print({seed})\nimage = ImageOps.flip(image)")
        )

    seen = await asyncio.gather(*[one(seed) for seed in range(12)])
    assert [observation.text for observation in seen] == [f"Picture 1: 20x10.\n{seed}" for seed in range(12)]
    assert {observation.step.net for observation in seen} == {Orientation.FV}
