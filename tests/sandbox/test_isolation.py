"""What the sandbox runs behind: it refuses, with a remedy, to run behind less than was asked for, and results say what.

A kernel without a primitive is made, not faked: a process lays a seccomp filter over itself that answers as such a
kernel would, and starts the sandbox below it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import Run, noise

from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import EarlierCall, ExecRequest, Isolation, Sandbox
from codevision_ext.sandbox.lockdown import CHILD_CALLS, PRIMITIVES, ZYGOTE_CALLS, primitives, shared_or_executable
from codevision_ext.sandbox.settings import ToolSettings, read_tool_settings
from codevision_ext.types import ExecStatus, ToolCall

POORER = """
import errno, json, os, pyseccomp, sys
from PIL import Image
from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import ExecRequest, Isolation, Sandbox, lockdown
isolation, forbidden, opened = json.loads(sys.argv[1])
filter = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name, code, *rest in forbidden:
    filter.add_rule(pyseccomp.ERRNO(getattr(errno, code)), name, *(pyseccomp.Arg(0, pyseccomp.EQ, n) for n in rest))
filter.load()
for name in opened:
    lockdown.ZYGOTE_CALLS[name] = lockdown.CHILD_CALLS[name] = ()
try:
    with Sandbox(isolation=Isolation(isolation)) as sandbox:
        made = sandbox.run(ExecRequest(code="image = image.rotate(90)", images=(Image.new("RGB", (8, 8)),)))
        print(json.dumps([made.status, made.isolation]))
except SandboxError as error:
    print(json.dumps(str(error)))
"""
PR_SET_SECCOMP = 22
NO_LANDLOCK = [("landlock_create_ruleset", "ENOSYS")]
NO_SECCOMP = [("prctl", "EINVAL", PR_SET_SECCOMP)]
NO_PIDFD = [("pidfd_open", "ENOSYS")]
NO_USER = [("setresuid", "EPERM")]


def on_a_poorer_kernel(isolation: str, *forbidden: tuple[str, ...], opened: tuple[str, ...] = ()) -> str | list[str]:
    """What the sandbox says, or how a call ended and what it ran behind."""
    done = subprocess.run(
        [sys.executable, "-c", POORER, json.dumps([isolation, forbidden, opened])],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: str | list[str] = json.loads(done.stdout)
    return said


def test_this_machine_has_what_is_required_and_every_primitive_has_a_remedy() -> None:
    report = primitives()
    assert [primitive.name for primitive in report] == list(PRIMITIVES)
    assert all(primitive.present or not primitive.required for primitive in report)
    assert all(primitive.remedy for primitive in report)


def test_every_result_says_what_it_ran_behind(sandbox: Sandbox, run: Run) -> None:
    assert sandbox.start() is run("pass").isolation
    assert run("pass").isolation in (Isolation.STRICT, Isolation.LANDLOCK)
    assert run("foo").isolation is sandbox.start()


def test_without_landlock_it_is_still_strict_and_says_that() -> None:
    assert on_a_poorer_kernel("strict", *NO_LANDLOCK) == ["ok", "strict"]


def test_landlock_can_be_demanded() -> None:
    said = on_a_poorer_kernel("strict+landlock", *NO_LANDLOCK)
    assert "can't be strict+landlock" in said
    assert PRIMITIVES["landlock"][1] in said


def test_without_seccomp_it_refuses_and_says_what_to_do() -> None:
    said = on_a_poorer_kernel("strict", *NO_SECCOMP)
    assert "can't be strict, it lacks seccomp" in said
    assert PRIMITIVES["seccomp"][1] in said
    assert "isolation: unsafe" in said


def test_unsafe_runs_with_what_there_is_and_every_result_says_so() -> None:
    assert on_a_poorer_kernel("unsafe", *NO_SECCOMP) == ["ok", "unsafe"]


def test_every_step_of_a_record_says_what_its_code_ran_behind(sandbox: Sandbox) -> None:
    codes = ("image = image.rotate(90)", "pass", "foo")
    steps = [CodeTool(sandbox).call(ImageHistory([noise(8, 6)]), ToolCall(code=code)).step for code in codes]
    assert [step.isolation for step in steps] == [sandbox.start()] * 3


def test_unsafe_on_a_machine_that_has_everything_is_not_weaker(sandbox: Sandbox) -> None:
    with Sandbox(isolation=Isolation.UNSAFE) as allowed:
        assert allowed.start() is sandbox.start()


def test_without_pidfd_it_refuses_at_any_level() -> None:
    assert "it lacks pidfd" in on_a_poorer_kernel("strict", *NO_PIDFD)
    assert "died while it proved itself" in on_a_poorer_kernel("unsafe", *NO_PIDFD)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a user to give up")
def test_root_that_cannot_become_another_user_refuses() -> None:
    assert "it lacks unprivileged user (Operation not permitted)" in on_a_poorer_kernel("strict", *NO_USER)
    assert on_a_poorer_kernel("unsafe", *NO_USER) == ["ok", "unsafe"]


RIGHTS = """
import ctypes, json, os
from pathlib import Path
from codevision_ext.sandbox import lockdown as own
PR_GET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAP_AMBIENT_RAISE, NET_RAW = 3, 8, 2, 13
assert own.LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
os.setresgid(own.NOBODY, own.NOBODY, own.NOBODY)
os.setresuid(own.NOBODY, own.NOBODY, own.NOBODY)
header = (ctypes.c_uint32 * 2)(own.CAPABILITIES_VERSION_3, 0)
assert own.LIBC.capset(header, (ctypes.c_uint32 * 6)(*([1 << NET_RAW] * 3), 0, 0, 0)) == 0
assert own.LIBC.prctl(own.PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 0, 0) == 0
assert own.LIBC.prctl(own.PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
def rights():
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    return held | {"dumpable": own.LIBC.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)}
before = rights()
own._drop_user()
print(json.dumps([before, rights()]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give an ordinary user capabilities")
def test_an_ordinary_user_gives_up_inherited_capabilities_and_can_t_be_inspected() -> None:
    done = subprocess.run([sys.executable, "-c", RIGHTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    held = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")
    assert all(before[name] for name in (*held, "dumpable"))
    assert not any(after[name] for name in (*held, "dumpable")), after


@pytest.mark.parametrize(
    ("name", "door"),
    [("socket", "use the network"), ("newfstatat", "stat a file"), ("memfd_create", "make a descriptor")],
)
def test_a_door_that_a_filter_leaves_open_is_found_by_the_proof(name: str, door: str) -> None:
    assert f"code inside could {door}" in on_a_poorer_kernel("strict", opened=(name,))


def test_the_children_may_do_no_more_than_the_zygote() -> None:
    assert set(CHILD_CALLS) < set(ZYGOTE_CALLS)
    assert all(ZYGOTE_CALLS[name] == rules for name, rules in CHILD_CALLS.items())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("7f00-7f01 rw-p 0000 00:00 0", False),
        ("7f00-7f01 r-xp 0000 00:00 0 /lib/libc.so", False),
        ("7f00-7f01 r--s 0000 00:00 0 /lib/gconv.cache", False),
        ("7f00-7f01 rw-s 0000 00:01 9 /memfd:x", True),
        ("7f00-7f01 rwxp 0000 00:00 0", True),
    ],
)
def test_memory_that_is_shared_or_executable_is_recognised(line: str, found: bool) -> None:
    assert bool(shared_or_executable(line + "\n")) == found


def test_isolation_and_variables_are_settings_of_the_tool() -> None:
    settings = read_tool_settings({"type": "native", "isolation": "unsafe", "keep_variables": True}, "tool.yaml")
    assert settings == ToolSettings(isolation=Isolation.UNSAFE, keep_variables=True)
    assert read_tool_settings({}, "tool.yaml").isolation is Isolation.STRICT
    with pytest.raises(
        InputError, match=r"tool.yaml: isolation: must be 'unsafe', 'strict' or 'strict\+landlock', it is 'none'"
    ):
        read_tool_settings({"isolation": "none"}, "tool.yaml")
    with pytest.raises(InputError, match=r"tool.yaml: keep_variables: must be a valid boolean, it is 1"):
        read_tool_settings({"keep_variables": 1}, "tool.yaml")
    for name, wrong in (("live", 0), ("live", 1.5), ("max_text_chars", -1), ("memory_mb", 512.5), ("wall_s", 1e300)):
        with pytest.raises(InputError, match=rf"^tool.yaml: .*{name}:? must be .*, it is {wrong}".replace("+", r"\+")):
            read_tool_settings({name: wrong}, "tool.yaml")


def test_variables_of_earlier_calls_are_there_when_they_are_kept(sandbox: Sandbox) -> None:
    tool, history = CodeTool(sandbox, keep_variables=True), ImageHistory([noise(40, 30)])
    first = tool.call(
        history, ToolCall(code="k = 1\ndef turn(p): return p.rotate(90 * k, expand=True)\nprint('said once')")
    )
    assert first.text.endswith("said once")
    tool.call(history, ToolCall(code="result = turn(image)"))
    assert history.images[1].tobytes() == history.images[0].rotate(90, expand=True).tobytes()
    third = tool.call(history, ToolCall(code="print(k, image.size, len(images))", image_index=1))
    assert third.text.endswith("1 (30, 40) 2")
    assert third.step.noop  # the earlier `result` isn't taken for this call's


def test_a_failed_call_leaves_no_variables(sandbox: Sandbox) -> None:
    tool, history = CodeTool(sandbox, keep_variables=True), ImageHistory([noise(40, 30)])
    tool.call(history, ToolCall(code="k = 1\nfoo"))
    assert "NameError: name 'k'" in tool.call(history, ToolCall(code="print(k)")).text


def test_variables_are_gone_when_they_are_not_kept_and_never_reach_another_trajectory(sandbox: Sandbox) -> None:
    for keep, same_desk in ((False, True), (True, False)):
        tool, history = CodeTool(sandbox, keep_variables=keep), ImageHistory([noise(40, 30)])
        tool.call(history, ToolCall(code="k = 1"))
        history = history if same_desk else ImageHistory([noise(40, 30)])
        assert "NameError: name 'k'" in tool.call(history, ToolCall(code="print(k)")).text


def test_an_earlier_call_saw_the_images_of_its_time_and_changes_none_of_now(sandbox: Sandbox) -> None:
    images = noise(8, 8, 1), noise(9, 9, 2)
    earlier = EarlierCall(code="seen = images[-1].size\nimage.paste(0, (0, 0, 8, 8))", image_index=0, images=1)
    result = sandbox.run(ExecRequest(code="print(seen)", images=images, earlier=(earlier,)))
    assert (result.status, result.stdout) == (ExecStatus.OK, "(8, 8)\n")
    assert result.images[0].tobytes() == images[0].tobytes()
    with pytest.raises(InputError, match="an earlier call used image 0 of 3"):
        ExecRequest(code="", images=images, earlier=(EarlierCall(code="", image_index=0, images=3),))
