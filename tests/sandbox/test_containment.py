"""What hostile code can't do, and that our own faults are never taken for its; `test_attacks.py` has the corpus."""

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import Run, noise

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import ExecRequest, ExecResult, Limits, Sandbox, wire
from codevision_ext.sandbox.lockdown import LIBC
from codevision_ext.sandbox.pixels import view_image
from codevision_ext.sandbox.protocol import new_result, read_result
from codevision_ext.types import ExecStatus

IMAGE = noise(40, 30)
PR_SET_CHILD_SUBREAPER = 36


def attack(sandbox: Sandbox, code: str) -> ExecResult:
    return sandbox.run(ExecRequest(code=code, images=(IMAGE,)))


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def zygotes() -> dict[int, int]:
    """Each zygote, and how many children it has: the one that waits for the next call is another each time."""
    return {zygote.pid: len(zygote.children(recursive=True)) for zygote in psutil.Process().children()}


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import signal\nfor n in (1, 2, 3, 13, 14, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
        "sum(iter(int, 1))",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    ],
)
def test_nothing_outlives_the_deadline(impatient: Sandbox, code: str) -> None:
    started = time.monotonic()
    result = attack(impatient, code)
    assert result.status is ExecStatus.TIMEOUT
    assert time.monotonic() - started < impatient.limits.wall_s + 1.0


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.fork()",
        "import subprocess\nsubprocess.run(['/bin/true'])",
        "import threading\nthreading.Thread(target=print).start()",
        "import os\nos.setuid(0)",
        "import os\nos.kill(1, 0)",
        "open('/tmp/codevision_ext_attack', 'w').write('x' * 10)\nopen('/tmp/codevision_ext_attack').read()[0]",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
        "import os\nfor _ in range(64): os.dup(1)",
    ],
)
def test_processes_rights_files_and_limits_are_out_of_reach(impatient: Sandbox, code: str) -> None:
    try:
        assert attack(impatient, code).status in (ExecStatus.ERROR, ExecStatus.DENIED)
    finally:
        Path("/tmp/codevision_ext_attack").unlink(missing_ok=True)


def test_memory_is_bounded() -> None:
    with Sandbox(Limits(wall_s=30.0, memory_mb=64)) as small:
        assert attack(small, "x = [bytearray(10**6) for _ in range(1000)]").status is ExecStatus.MEMORY
        assert attack(small, "x = np.ones(10**7)").status is ExecStatus.MEMORY


def test_output_is_bounded(impatient: Sandbox) -> None:
    assert len(attack(impatient, "for _ in range(10**5): print('x' * 100)").stdout) == 100
    assert attack(impatient, "result = Image.new('RGB', (501, 10))").status is ExecStatus.BAD_IMAGE
    assert attack(impatient, "result = Image.new('RGB', (400, 400))").status is ExecStatus.BAD_IMAGE
    assert len(attack(impatient, "result = [image] * 17").images) == 16
    assert attack(impatient, "#" * 2001).status is ExecStatus.TOO_LONG


def test_a_call_leaves_nothing_to_the_next(sandbox: Sandbox) -> None:
    attack(sandbox, "import builtins, sys\nnp.rot90 = None\nbuiltins.print = None\nsys.modules['cv2'] = None\nleft = 1")
    result = attack(sandbox, "import cv2\nprint('left' in globals())\nresult = np.rot90(np.array(image))")
    assert (result.status, result.stdout) == (ExecStatus.OK, "False\n")


def test_the_child_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEVISION_SECRET", "label")
    with Sandbox() as sandbox:
        result = attack(
            sandbox,
            "import os, sys\n"
            "print([m for m in sys.modules if 'codevision' in m], os.environ.get('CODEVISION_SECRET'))\n"
            "print(sys.argv, sys.path)\n"
            "def there(fd):\n"
            "    try: return os.lseek(fd, 0, 1) >= 0\n"
            "    except OSError: return False\n"
            "print([fd for fd in range(2000) if there(fd)])",
        )
    # 0, 1, 2 are /dev/null, 3 is the map of its own request, which no one can write, 5 the result
    assert result.stdout == "[] None\n[''] []\n[0, 1, 2, 3, 5]\n"


def test_what_lies_beside_the_pixels_stays_here(sandbox: Sandbox) -> None:
    beside = view_image(b"rgb\x4d" * 64, 0, 8, 8)  # PIL leaves in the fourth byte what was in memory before
    seen = sandbox.run(
        ExecRequest(code="print(set(image.tobytes('raw', 'RGBX')[3::4]), image.tobytes()[:3])", images=(beside,))
    )
    assert seen.stdout == "{0} b'rgb'\n"


def test_code_that_writes_a_result_of_its_own_forges_nothing_but_its_image(sandbox: Sandbox) -> None:
    forged = (
        "import mmap, os, struct\n"
        f"header = struct.pack('{wire.RESULT.format}', {wire.MAGIC!r}, b'STATUS', 1, 0, 0)\n"
        "mmap.mmap(5, 1000)[:] = header.ljust(1000, b'\\xff')\n"
        "os._exit(0)"
    )
    for status in ("ok", "timeout", "error", "nonsense"):
        result = attack(sandbox, forged.replace("STATUS", status))
        assert result.status in (ExecStatus.CRASHED, ExecStatus.BAD_IMAGE)
        assert result.images == ()


SMALL = Limits(max_pixels=1000, max_side=64, stdout_chars=50)


@given(
    magic=st.sampled_from([wire.MAGIC, b"whatever"]),
    status=st.sampled_from([b"ok", b"error", b"timeout", b"x"]),
    numbers=st.tuples(*[st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))] * 3),
    body=st.binary(max_size=400),
)
def test_no_bytes_in_the_result_break_the_reader(
    magic: bytes, status: bytes, numbers: tuple[int, int, int], body: bytes
) -> None:
    fd = new_result(SMALL)
    try:
        os.pwrite(fd, wire.RESULT.pack(magic, status, *numbers) + body, 0)
        result = read_result(fd, SMALL, 1.0)
    finally:
        os.close(fd)
    assert (len(result.images) > 0) == (result.status is ExecStatus.OK)
    assert sum(made.width * made.height for made in result.images) <= SMALL.max_pixels
    assert len(result.stdout) <= SMALL.stdout_chars


def test_a_result_that_promises_more_pixels_than_it_holds_is_crashed() -> None:
    fd = new_result(SMALL)
    try:
        filler = os.fstat(fd).st_size - wire.RESULT.size - wire.SIDES.size
        os.pwrite(fd, wire.RESULT.pack(wire.MAGIC, b"ok", 1, filler, 0) + wire.SIDES.pack(30, 30), 0)
        assert read_result(fd, SMALL, 1.0).status is ExecStatus.CRASHED
    finally:
        os.close(fd)


def test_a_dead_zygote_is_replaced_and_the_call_repeated() -> None:
    before = zygotes()
    with Sandbox() as sandbox:
        assert attack(sandbox, "pass").status is ExecStatus.OK
        (zygote,) = zygotes().keys() - before.keys()
        os.kill(zygote, signal.SIGKILL)
        assert attack(sandbox, "pass").status is ExecStatus.OK


def test_calls_that_a_dead_zygote_took_with_it_are_all_repeated() -> None:
    before = zygotes()
    with Sandbox(Limits(wall_s=60.0), live=8) as sandbox, ThreadPoolExecutor(8) as threads:
        (zygote,) = zygotes().keys() - before.keys()
        waiting = zygotes()[zygote]
        calls = [threads.submit(attack, sandbox, "import time\ntime.sleep(0.8)") for _ in range(8)]
        while zygotes()[zygote] < waiting + 8 and not any(call.done() for call in calls):
            time.sleep(0.01)
        os.kill(zygote, signal.SIGKILL)
        assert [call.result().status for call in calls] == [ExecStatus.OK] * 8


def test_a_running_child_dies_with_its_zygote() -> None:
    before = zygotes()
    with Sandbox(Limits(wall_s=10.0)) as sandbox, ThreadPoolExecutor(1) as thread:
        (zygote,) = zygotes().keys() - before.keys()
        call = thread.submit(attack, sandbox, "while True: pass")
        while not (busy := [child for child in psutil.Process(zygote).children() if sum(child.cpu_times()[:2]) > 0.3]):
            time.sleep(0.02)
        os.kill(zygote, signal.SIGKILL)
        _, alive = psutil.wait_procs(busy, timeout=3)
        assert not alive
        assert call.result().status is ExecStatus.TIMEOUT


def test_a_waiting_child_that_was_killed_is_replaced_and_no_call_sees_it() -> None:
    before = zygotes()
    with Sandbox() as sandbox:
        assert attack(sandbox, "pass").status is ExecStatus.OK
        (zygote,) = zygotes().keys() - before.keys()
        (waiting,) = psutil.Process(zygote).children()
        waiting.kill()
        psutil.wait_procs([waiting], timeout=10)
        assert attack(sandbox, "print(1)").stdout == "1\n"
        assert zygotes() == before | {zygote: 1}


def test_a_sandbox_that_keeps_dying_is_an_exception_never_an_outcome() -> None:
    before, done = children(), threading.Event()

    def murder() -> None:
        while not done.wait(0.05):
            for zygote in children() - before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(zygote, signal.SIGKILL)

    with Sandbox(Limits(wall_s=30)) as sandbox:
        murderer = threading.Thread(target=murder)
        murderer.start()
        try:
            with pytest.raises(SandboxError, match=r"died|did not start"):
                attack(sandbox, "import time\ntime.sleep(25)")  # the murderer has time on a busy machine
        finally:
            done.set()
            murderer.join()
        assert attack(sandbox, "pass").status is ExecStatus.OK


def test_a_closed_sandbox_says_so_and_leaves_no_process() -> None:
    before = children()
    sandbox = Sandbox()
    sandbox.start()
    assert children() - before
    sandbox.close()
    assert children() - before == set()
    with pytest.raises(SandboxError, match="closed"):
        attack(sandbox, "pass")


def test_a_closed_sandbox_leaves_no_dead_child_for_others_to_reap() -> None:
    before = children()
    assert LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # what it leaves comes to us, not to process 1
    try:
        with Sandbox() as sandbox:
            attack(sandbox, "pass")
        assert children() - before == set()
    finally:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_an_interpreter_that_cant_load_the_libraries_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in ("/bin/false", "/nonexistent/python"):
        monkeypatch.setattr("sys.executable", executable)
        with pytest.raises(SandboxError, match="did not start"):
            Sandbox().start()


def test_calls_leave_no_process_and_no_descriptor(sandbox: Sandbox) -> None:
    attack(sandbox, "pass")
    processes, descriptors = zygotes(), os.listdir("/proc/self/fd")  # noqa: PTH208 - names are all we compare
    for code in ("pass", "foo", "import os; os._exit(3)", "result = [image] * 3"):
        attack(sandbox, code)
    assert zygotes() == processes
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)  # noqa: PTH208


FILLS_ITS_RESULT = """
import mmap, os
with mmap.mmap(5, os.lseek(5, 0, 2)) as whole:
    whole[:] = bytes(len(whole))
result = Image.new('RGB', (1000, 1000), (1, 2, 3))
"""


def test_a_large_result_keeps_no_descriptor_and_no_more_memory_than_it_needs() -> None:
    def shared_bytes() -> int:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Shmem:")))

    with Sandbox(Limits(wall_s=30.0)) as patient:
        attack(patient, "pass")
        before, descriptors = shared_bytes(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        kept = [attack(patient, FILLS_ITS_RESULT).images[0] for _ in range(3)]
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert shared_bytes() - before < 100 * 2**20  # each result had room for 153 MiB
    for changed in kept:
        changed.putpixel((0, 0), (9, 9, 9))
        assert (changed.getpixel((0, 0)), changed.getpixel((999, 999))) == ((9, 9, 9), (1, 2, 3))
    mapped = Path("/proc/self/maps").read_text().count("memfd:result")
    del kept, changed
    assert (mapped, Path("/proc/self/maps").read_text().count("memfd:result")) == (3, 0)


def test_the_run_fixture_is_real(run: Run) -> None:
    assert run("import os\nprint(os.getpid())").stdout.strip() != str(os.getpid())
