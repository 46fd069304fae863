"""No code gets out: every attack of `attacks/`, as root and as an unprivileged user, judged from outside."""

import contextlib
import json
import os
import platform
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from PIL import Image

from codevision_ext.sandbox import wire
from codevision_ext.types import ExecStatus

ATTACKS = Path(__file__).with_name("attacks")
PRELUDE = (ATTACKS / "prelude.txt").read_text(encoding="utf-8")
NOBODY = 65534
WALL_S, SLACK_S = 0.7, 2.0
"""The host's limit, and how late its answer may be on a busy machine."""
SYSV_KEY = f"{0x1234}"
"""Of the shared memory, messages and semaphores that the corpus tries to make."""


def corpus() -> Iterator[tuple[str, str]]:
    """The name and the code of every attack."""
    for file in sorted(ATTACKS.glob("*.txt")):
        if file.stem != "prelude":
            for attack in file.read_text(encoding="utf-8").split("\n=== ")[1:]:
                name, code = attack.split("\n", 1)
                yield f"{file.stem}: {name}", code


CORPUS = dict(corpus())


def as_nobody() -> list[str]:
    """The words that run a command as an unprivileged user; may it not read the interpreter, with that right alone.

    The zygote drops the right before it serves, as any it is started with.
    """
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reads = [*words, "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    shown = [sys.executable, "-c", "import cv2, sys; sys.stdout.write(sys.base_prefix)"]
    plain = subprocess.run([*words, *shown], capture_output=True, text=True, check=False)
    return words if plain.stdout == sys.base_prefix else reads


class Canaries:
    """Everything outside that an attack could touch, and how it was before."""

    def __init__(self, folder: Path) -> None:
        self.token = f"CANARY-{secrets.token_hex(16)}"
        self.folder = folder
        folder.chmod(0o755)
        self.open = folder / "open"
        self.open.mkdir()
        self.open.chmod(0o777)
        (self.open / "secret.txt").write_text(self.token)
        (self.open / "secret_module.py").write_text(f"TOKEN = {self.token!r}")
        with zipfile.ZipFile(self.open / "secret.zip", "w") as archive:
            archive.writestr("secret_module.py", f"TOKEN = {self.token!r}")
        pixels = self.token.encode() * 3
        Image.frombytes("RGB", (len(self.token), 1), pixels).save(self.open / "secret.png")
        shutil.copy(next(Path(sys.prefix).rglob("DejaVuSans.ttf")), self.open / "font.ttf")
        for path in self.open.iterdir():
            path.chmod(0o666)
        self.listeners = [socket.create_server(("127.0.0.1", 0))]
        self.abstract = f"codevision-{secrets.token_hex(8)}"
        for address in ("\0" + self.abstract, str(self.open / "socket")):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
            listener.listen()
            self.listeners.append(listener)
        (self.open / "socket").chmod(0o777)
        for listener in self.listeners:
            listener.setblocking(False)
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        quiet = subprocess.DEVNULL
        self.victim = subprocess.Popen([*words, "/bin/sleep", "3600"], env={"LABEL": self.token}, stdout=quiet)
        self.before: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """What can be seen of the canaries now; equal to what it was as long as nobody touched them."""
        visitors = 0
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                visitors += 1
        victim = psutil.Process(self.victim.pid)
        return {
            "visitors": visitors,
            "files": {path.name: (path.read_bytes(), path.stat().st_mode) for path in self.files()},
            "folder": (self.open.stat().st_mode, self.open.stat().st_uid),
            "victim": (victim.status() in (psutil.STATUS_SLEEPING, psutil.STATUS_IDLE), victim.nice()),
            "victim's": (victim.cpu_affinity(), Path(f"/proc/{victim.pid}/limits").read_text(), victim.ionice()),
            "kernel": [path.name for path in Path("/proc/sysvipc").iterdir() if SYSV_KEY in path.read_text().split()],
            "shared": sorted(path.name for path in Path("/dev/shm").iterdir() if "codevision" in path.name),
        }

    def files(self) -> Iterator[Path]:
        return (path for path in self.open.iterdir() if path.is_file())

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in self.listeners:
            listener.close()


class Host:
    """The process whose sandbox is attacked; it holds the token in its memory and its environment."""

    def __init__(self, words: list[str], canaries: Canaries, isolation: str = "strict") -> None:
        self.canaries = canaries
        self._log = (canaries.folder / "log").open("wb+")
        self._process = subprocess.Popen(
            [*words, sys.executable, str(ATTACKS / "host.py"), isolation],
            env={"LABEL": canaries.token, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.start = self._answer()
        self._tree = psutil.Process(self._process.pid)
        self._names = {
            "HOST": self._process.pid,
            "VICTIM": canaries.victim.pid,
            "FOLDER": str(canaries.open),
            "SECRET": str(canaries.open / "secret.txt"),
            "IMAGE_FILE": str(canaries.open / "secret.png"),
            "FONT": str(canaries.open / "font.ttf"),
            "PORT": canaries.listeners[0].getsockname()[1],
            "ABSTRACT": canaries.abstract,
            "SOCKET_FILE": str(canaries.open / "socket"),
            "HEADER": wire.RESULT.format,
            "MAGIC": wire.MAGIC,
        }
        canaries.before = canaries.look()
        self.attack("import matplotlib")  # so that its zygote is there from the start
        self._processes = self.processes()

    def processes(self) -> dict[int, int]:
        """The zygotes, and how many children each has: the one that waits for the next call is another each time."""
        return {zygote.pid: len(zygote.children(recursive=True)) for zygote in self._tree.children()}

    def attack(self, code: str) -> dict[str, Any]:
        """Run one attack and return what the host got."""
        names = "".join(f"{name} = {value!r}\n" for name, value in self._names.items())
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"code": names + PRELUDE + code}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def damage(self, answer: dict[str, Any]) -> list[str]:
        """What an attack achieved: from its answer, and from what can be seen outside."""
        said = answer["stdout"] + answer["detail"]
        after = self.canaries.look()
        found = [f"{name} changed: {after[name]}" for name in after if after[name] != self.canaries.before[name]]
        found += ["it says that it won"] * ("PWNED" in answer["stdout"])
        found += ["the token came out"] * (self.canaries.token[:20] in said or answer["leaks"])
        found += ["the next call was not clean"] * (not answer["clean"])
        found += ["processes were left or lost"] * (self.processes() != self._processes)
        found += [f"it took {answer['took_s']:.1f} s"] * (answer["took_s"] > WALL_S + SLACK_S)
        found += ["text is too long"] * (len(answer["stdout"]) > 2000 or len(answer["detail"]) > wire.DETAIL_CHARS)
        sizes = answer["sizes"]
        found += ["status and images don't agree"] * ((answer["status"] == ExecStatus.OK) != bool(sizes))
        found += ["images are too large"] * (any(max(size) > 600 for size in sizes) or len(sizes) > 16)
        found += ["it claims what only the parent finds"] * (answer["status"] == ExecStatus.TOO_LONG)
        return found

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            pytest.fail(f"the host ended: {self._log.read()[-2000:].decode()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture(scope="module", params=["root", "an unprivileged user"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("these tests don't run as root")
    words = as_nobody() if request.param != "root" and os.getuid() == 0 else []
    with TemporaryDirectory(prefix="codevision-attacks-") as folder:
        canaries = Canaries(Path(folder))
        try:
            started = Host(words, canaries)
            try:
                yield started
            finally:
                started.close()
        finally:
            canaries.close()


def test_the_host_is_who_it_should_be_and_its_sandbox_is_strict(host: Host, request: pytest.FixtureRequest) -> None:
    assert (host.start["uid"] == 0) == ("[root]" in request.node.name)
    assert host.start["isolation"].startswith("strict")
    assert host.start["honest"]


def test_an_attack_reaches_the_result_that_it_forges(host: Host) -> None:
    answer = host.attack("forge(b'error', 0, 2, 6, b'so' + b'forged')")
    assert (answer["status"], answer["stdout"], answer["detail"]) == ("error", "so", "forged")


@pytest.mark.parametrize("name", CORPUS)
def test_an_attack_achieves_nothing(host: Host, name: str) -> None:
    if "sc(" in CORPUS[name] and platform.machine() != "x86_64":
        pytest.skip("it calls the kernel by the numbers of x86_64")
    answer = host.attack(CORPUS[name])
    assert host.damage(answer) == [], answer


def test_the_corpus_is_large_and_every_attack_has_a_name_of_its_own() -> None:
    assert len(CORPUS) >= 150
    assert len(CORPUS) == len(list(corpus()))
    assert struct.calcsize(wire.RESULT.format) == wire.RESULT.size
