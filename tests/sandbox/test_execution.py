"""What honest code may expect: names, results of every usual kind, output, short errors."""

import asyncio
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import Run, noise

from codevision_ext.errors import InputError
from codevision_ext.sandbox import ExecRequest, Limits, Sandbox
from codevision_ext.types import ExecStatus

IMAGE = noise(40, 30)


@pytest.mark.parametrize(
    "code",
    [
        "image = image.rotate(90, expand=True)",
        "img = img.transpose(Image.ROTATE_90)",
        "result = np.rot90(np.array(image))",
        "output = images[0].transpose(Image.Transpose.ROTATE_90)",
        "processed_image = cv2.rotate(np.array(img), cv2.ROTATE_90_COUNTERCLOCKWISE)",
        "from PIL import Image as I\nimport numpy as n\nresult = [I.fromarray(n.rot90(n.asarray(image)))]",
        "def turn(p, n):\n    return turn(p.rotate(90, expand=True), n - 1) if n else p\nimage = turn(image, 1)",
        "turns = [numpy.rot90 for _ in range(math.floor(1.5))]\nfor t in turns: result = t(numpy.array(image))",
    ],
)
def test_a_image_comes_back_whatever_the_style(run: Run, code: str) -> None:
    result = run(code, IMAGE)
    assert result.status is ExecStatus.OK, result.detail
    assert result.images[0].tobytes() == IMAGE.rotate(90, expand=True).tobytes()


def test_drawing_on_the_image_in_place_is_a_result(run: Run) -> None:
    result = run("ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill=(255, 0, 0))", IMAGE)
    assert result.images[0].getpixel((5, 5)) == (255, 0, 0)


def test_text_can_be_drawn(run: Run) -> None:
    assert run("ImageDraw.Draw(image).text((2, 2), 'abc', fill='red')").status is ExecStatus.OK


def test_the_image_at_image_index_is_image(run: Run) -> None:
    images = noise(8, 8, 1), noise(9, 9, 2)
    result = run("print(len(images), image is images[1])", *images, index=1)
    assert result.stdout == "2 True\n"
    assert result.images[0].tobytes() == images[1].tobytes()


@pytest.mark.parametrize(
    ("code", "pixel"),
    [
        ("result = Image.new('L', (4, 4), 7)", (7, 7, 7)),
        ("result = Image.new('1', (4, 4), 1)", (255, 255, 255)),
        ("result = Image.new('P', (4, 4), 0)", (0, 0, 0)),
        ("result = Image.new('RGBA', (4, 4), (9, 9, 9, 0))", (255, 255, 255)),
        ("result = Image.new('LA', (4, 4), (9, 255))", (9, 9, 9)),
        ("result = Image.new('CMYK', (4, 4), (0, 0, 0, 255))", (0, 0, 0)),
        ("result = Image.new('F', (4, 4), 300.0)", (255, 255, 255)),
        ("result = Image.new('I', (4, 4), 12)", (12, 12, 12)),
        ("result = np.full((4, 4), 3, np.uint8)", (3, 3, 3)),
        ("result = np.full((4, 4, 1), 3, np.uint8)", (3, 3, 3)),
        ("result = np.full((4, 4, 4), 255, np.uint8)", (255, 255, 255)),
        ("result = np.full((4, 4, 3), 0.5)", (128, 128, 128)),
        ("result = np.full((4, 4, 3), 90.2, np.float32)", (90, 90, 90)),
        ("result = np.full((4, 4, 3), np.nan)", (0, 0, 0)),
        ("result = np.ones((4, 4), bool)", (255, 255, 255)),
        ("result = np.full((4, 4, 3), -5)", (0, 0, 0)),
        ("result = (Image.new('RGB', (4, 4), 'red'),)", (255, 0, 0)),
    ],
)
def test_every_usual_kind_of_image_becomes_rgb(run: Run, code: str, pixel: tuple[int, int, int]) -> None:
    result = run(code)
    assert result.status is ExecStatus.OK, result.detail
    assert result.images[0].mode == "RGB"
    assert result.images[0].getpixel((1, 1)) == pixel


def test_a_list_brings_all_its_images_back(run: Run) -> None:
    result = run("result = [image.crop((0, 0, n, n)) for n in (3, 5)]")
    assert [made.size for made in result.images] == [(3, 3), (5, 5)]


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("image = foo(image)", ExecStatus.ERROR, "NameError: name 'foo' is not defined (line 1: image = foo(image))"),
        ("x = 1\ndef f(:", ExecStatus.ERROR, "SyntaxError: invalid syntax (line 2: def f(:)"),
        (
            "def f():\n    1 / 0\nf()",
            ExecStatus.ERROR,
            "ZeroDivisionError: division by zero (line 2: 1 / 0)",
        ),
        ("np.zeros((2, 2)) @ np.zeros(3)", ExecStatus.ERROR, None),
        ("raise SystemExit(1)", ExecStatus.ERROR, "SystemExit: 1 (line 1: raise SystemExit(1))"),
        ("import sys\nsys.exit('no text')", ExecStatus.ERROR, "SystemExit: no text (line 2: sys.exit('no text'))"),
        ("raise KeyboardInterrupt", ExecStatus.ERROR, None),
        ("x = '\0'", ExecStatus.ERROR, None),
        ("x = '\ud800'\nraise ValueError(x)", ExecStatus.ERROR, None),
        ("result = None", ExecStatus.NO_IMAGE, ""),
        ("image = None", ExecStatus.NO_IMAGE, ""),
        ("del image", ExecStatus.NO_IMAGE, ""),
        ("result = 5", ExecStatus.BAD_IMAGE, "the result is of type int"),
        ("result = 'a path'", ExecStatus.BAD_IMAGE, "the result is of type str"),
        ("result = image.crop((5, 5, 5, 9))", ExecStatus.BAD_IMAGE, "its size is 0x4"),
        ("result = np.zeros((0, 4, 3), np.uint8)", ExecStatus.BAD_IMAGE, "its size is 4x0"),
        ("result = np.zeros((4, 4, 7))", ExecStatus.BAD_IMAGE, "an array of shape (4, 4, 7)"),
        ("result = np.full((4, 4), 'a')", ExecStatus.BAD_IMAGE, None),
        ("result = Image.new('RGB', (300, 1))", ExecStatus.BAD_IMAGE, "its size is 300x1, too narrow"),
        ("result = np.zeros(10**10)", ExecStatus.MEMORY, None),
        ("result = cv2.resize(np.array(image), (20000, 20000))", ExecStatus.MEMORY, None),
        ("import os; os._exit(0)", ExecStatus.CRASHED, ""),
        ("import ctypes; ctypes.string_at(0)", ExecStatus.CRASHED, ""),
        ("open('/proc/1/mem', 'rb')", ExecStatus.DENIED, None),
    ],
)
def test_every_failure_has_a_name(run: Run, code: str, status: ExecStatus, detail: str | None) -> None:
    result = run(code)
    assert result.status is status, result
    assert result.images == ()
    if detail is not None:
        assert result.detail == detail


def test_doing_nothing_is_no_failure(run: Run) -> None:
    result = run("pass", IMAGE)
    assert result.status is ExecStatus.OK
    assert result.images[0].tobytes() == IMAGE.tobytes()


def test_an_error_names_only_the_models_own_lines_and_stays_short(run: Run) -> None:
    result = run("import json\njson.loads('{' * 5)")
    assert "line 2: json.loads" in result.detail
    assert "/" not in result.detail
    assert len(run("raise ValueError('x' * 100_000)").detail) <= 400


def test_what_was_printed_before_an_error_is_kept(run: Run) -> None:
    result = run("print('before')\nfoo")
    assert (result.status, result.stdout) == (ExecStatus.ERROR, "before\n")


def test_the_same_code_draws_the_same_random_numbers(run: Run) -> None:
    code = "import random\nprint(random.random(), np.random.rand())"
    assert run(code).stdout == run(code).stdout


def test_many_callers_each_get_their_own_result(sandbox: Sandbox) -> None:
    def call(n: int) -> bool:
        image = noise(20 + n, 10, n)
        result = sandbox.run(ExecRequest(code=f"print({n})\nimage = ImageOps.mirror(image)", images=(image,)))
        same = result.images[0].tobytes() == image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
        return same and result.stdout == f"{n}\n"

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(40)))


async def test_the_event_loop_goes_on_while_code_runs(sandbox: Sandbox) -> None:
    request = ExecRequest(code="import time\ntime.sleep(0.3)", images=(IMAGE,))
    waiting = asyncio.ensure_future(sandbox.in_thread(lambda: sandbox.run(request)))
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0)
        ticks += 1
    assert waiting.result().status is ExecStatus.OK
    assert ticks > 5


def test_waiting_for_a_core_is_not_counted() -> None:
    request = ExecRequest(code="import time\ntime.sleep(0.6)", images=(IMAGE,))
    with Sandbox(Limits(wall_s=1.7), live=1) as narrow, ThreadPoolExecutor(3) as threads:
        started = time.monotonic()
        results = list(threads.map(narrow.run, [request] * 3))
    assert [result.status for result in results] == [ExecStatus.OK] * 3
    assert time.monotonic() - started > 1.7


def test_a_large_image_passes_unharmed(run: Run) -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8))
    assert (
        run("image = ImageOps.flip(image)", large).images[0].tobytes()
        == large.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()
    )


def test_code_of_every_length_and_its_image_pass_unharmed(run: Run) -> None:
    for length in range(64):
        result = run("image #" + "x" * length, IMAGE)
        assert (result.status, result.images[0].tobytes()) == (ExecStatus.OK, IMAGE.tobytes()), length


def test_a_wrong_limit_or_index_is_refused_in_one_sentence() -> None:
    for wrong in (0, -1, math.nan, math.inf, 1e300):
        with pytest.raises(InputError, match="wall_s must be greater than 0"):
            Limits(wall_s=wrong)
    for name, wrongs in {
        "memory_mb": (0, 1.5, 10**14),
        "stdout_chars": (-1, 10**12),
        "max_pixels": (1e6, 10**15),
    }.items():
        for wrong in wrongs:
            with pytest.raises(InputError, match=f"{name} must be a whole number from . to 268435456, it is {wrong}"):
                Limits(**{name: wrong})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="image_index is 1, but there are 1 images"):
        ExecRequest(code="", images=(IMAGE,), image_index=1)


@pytest.mark.parametrize(
    ("code", "mean"),
    [
        ("result = np.asarray(image).astype(np.float32) / 255 * 1.3", 166),
        ("result = np.full((4, 4, 3), 1.0001)", 255),
        ("result = np.full((4, 4, 3), 128.0)", 128),
        ("result = np.asarray(image).astype(np.uint16) * 257", 128),
        ("result = Image.fromarray(np.full((4, 4), 32896, np.uint16))", 128),
        ("result = np.asarray(image).astype(np.uint16) + 100", 228),
        ("result = np.asarray(image).astype(np.int32) * 3", 255),
    ],
)
def test_the_brightness_of_a_result_is_what_its_numbers_mean(run: Run, code: str, mean: int) -> None:
    (made,) = run(code, Image.new("RGB", (4, 4), (128, 128, 128))).images
    assert np.asarray(made).mean() == pytest.approx(mean, abs=1)


def test_what_code_says_of_an_error_that_it_caught_goes_back(run: Run) -> None:
    said = run(
        "import sys, traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\nprint('x', file=sys.stderr)"
    )
    assert "ZeroDivisionError: division by zero" in said.stdout
    assert said.stdout.endswith("x\n")
    assert run("np.array([1.0]) / 0").stdout == ""  # a library's warning isn't the code's word


def test_leaving_is_not_running_out_of_memory(run: Run) -> None:
    assert run("import sys\nsys.exit(-4)").status is ExecStatus.ERROR
    assert run("import os\nos._exit(2)").status is ExecStatus.CRASHED


NOT_LOADED = {
    *("aifc", "antigravity", "asynchat", "asyncore", "audioop", "bdb", "cgi", "cgitb", "chunk", "compileall", "crypt"),
    *(
        "curses",
        "dbm",
        "distutils",
        "doctest",
        "ensurepip",
        "ftplib",
        "idlelib",
        "imaplib",
        "imp",
        "lib2to3",
        "mailbox",
    ),
    *("mailcap", "modulefinder", "msilib", "msvcrt", "netrc", "nis", "nntplib", "nt", "nturl2path", "ossaudiodev"),
    *("pdb", "pipes", "poplib", "pty", "py_compile", "pyclbr", "pydoc_data", "readline", "rlcompleter", "smtpd"),
    *("smtplib", "sndhdr", "spwd", "sqlite3", "sre_compile", "sre_constants", "sre_parse", "sunau", "syslog"),
    *("tabnanny", "telnetlib", "test", "this", "tkinter", "turtle", "turtledemo", "uu", "venv", "winreg", "winsound"),
    *("wsgiref", "xdrlib", "xmlrpc", "zipapp", "_pyrepl"),
}
"""No honest code about images asks for these."""


def test_what_of_the_standard_library_cannot_be_imported_is_known(run: Run) -> None:
    names = [name for name in sys.stdlib_module_names if not name.startswith("_") and name not in NOT_LOADED]
    result = run(f"for name in {names}:\n    try: __import__(name)\n    except (ImportError, OSError): print(name)")
    assert (result.status, result.stdout) == (ExecStatus.OK, "")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)", "True"),
        (
            "import dataclasses, typing\n@dataclasses.dataclass\nclass A:\n    b: 'A | None' = None\n"
            "print(typing.get_type_hints(A))",
            "{'b': __main__.A | None}",
        ),
        ("import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))", "def f():\n    return 1"),
        ("import __main__\nprint(__name__, __main__.image is image)", "__main__ True"),
        ("import sys\nsys.stdout.buffer.write(b'abc')\nsys.stdout.flush()", "abc"),
        (
            "import sys\nsys.stdout.reconfigure(line_buffering=True)\nprint('\u00e9', sys.stdout.encoding)",
            "\u00e9 utf-8",
        ),
        ("import sys\nprint('a')\nsys.stdout.close()", "a"),
        ("import sys\nprint('a')\nsys.stdout.detach()", "a"),
        ("image.show()", ""),
        ("import asyncio, contourpy, mpl_toolkits.axes_grid1, typing_extensions  # matplotlib", ""),
        (
            "import io, matplotlib.pyplot as plt\nfrom mpl_toolkits.axes_grid1 import make_axes_locatable\n"
            "figure, axes = plt.subplots()\nlevels = axes.contourf(np.random.rand(5, 5))\n"
            "figure.colorbar(levels, cax=make_axes_locatable(axes).append_axes('right', '5%'))\n"
            "plt.savefig(io.BytesIO(), format='svg')",
            "",
        ),
    ],
)
def test_honest_code_finds_what_a_script_finds(run: Run, code: str, said: str) -> None:
    result = run(code)
    assert (result.status, result.stdout.strip()) == (ExecStatus.OK, said), result.detail


@pytest.mark.parametrize(
    "kind", sorted({"AVIF", "WEBP", "JPEG2000"}.intersection(Image.registered_extensions().values()))
)
def test_a_image_goes_through_a_format_that_not_every_pillow_has(run: Run, kind: str) -> None:
    code = f"import io\nfile = io.BytesIO()\nimage.save(file, '{kind}')\nfile.seek(0)\nresult = Image.open(file)"
    assert run(code, IMAGE).images[0].size == IMAGE.size


@pytest.mark.parametrize(
    "code",
    [
        "import threading\nthreading.Thread(target=print).start()",
        "from concurrent.futures import ThreadPoolExecutor as P\nwith P() as pool: list(pool.map(len, ['a']))",
        "import multiprocessing\nmultiprocessing.Pool(2)",
        "import multiprocessing\nmultiprocessing.Lock()",
        "import asyncio\nasync def f(): pass\nasyncio.run(f())",
        "import subprocess\nsubprocess.run(['ls'])",
        "import socket\nsocket.getaddrinfo('example.com', 80)",
        "import urllib.request\nurllib.request.urlopen('http://example.com')",
        "import tempfile\ntempfile.NamedTemporaryFile()",
        "import ctypes\nctypes.CDLL('libnothing.so')",
        "ImageFont.truetype('arial.ttf', 20)",
        "open('/etc/passwd')",
        "try: open('/etc/passwd')\nexcept OSError as error: raise RuntimeError('no file') from error",
    ],
)
def test_what_is_refused_is_named_so_whatever_library_tells_it(run: Run, code: str) -> None:
    result = run(code)
    assert result.status is ExecStatus.DENIED, result


def test_an_error_of_the_codes_own_after_a_refusal_is_an_error(run: Run) -> None:
    assert run("try: open('/etc/passwd')\nexcept OSError: foo(image)").status is ExecStatus.ERROR
    assert run("image.convert('RGBA').save('a.xyz')").status is ExecStatus.ERROR


@pytest.mark.parametrize("live", [0, 257, 1.5])
def test_more_executions_at_once_than_a_zygote_can_hold_are_refused(live: int) -> None:
    with pytest.raises(InputError, match="live must be a whole number from 1 to 256"):
        Sandbox(live=live)


TEXTS = """
from codevision_ext.sandbox import ExecRequest, Sandbox
code = "import matplotlib.pyplot as plt\\nfor size in (5, 11, 23): plt.text(0, 0, 'a', fontsize=size)\\nplt.show()"
with Sandbox() as sandbox:
    print(sandbox.run(ExecRequest(code=code, images=())).status)
"""


def test_matplotlib_writes_text_where_the_environment_is_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(sys.prefix)
    python = tmp_path / "linked" / "bin" / Path(sys.executable).name
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([python, "-c", TEXTS], capture_output=True, text=True, check=False, env=env)
    assert done.stdout == "ok\n", done
