"""Headless Chromium for tests, driven over a pipe by the DevTools protocol."""

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe")  # fmt: skip
WAIT_S = 60


class Browser:
    """One Chromium; a context that ends it."""

    def __init__(self) -> None:
        self.profile = tempfile.mkdtemp(prefix="chromium")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]

        def third_and_fourth() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [CHROMIUM or "chromium", *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, preexec_fn=third_and_fourth, pass_fds=(3, 4), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        self._buffer = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)  # Chromium ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._in)
        shutil.rmtree(self.profile, ignore_errors=True)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], WAIT_S)
            assert ready, "Chromium says nothing"
            read = os.read(self._in, 1 << 20)
            assert read, "Chromium has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, hash_: str = "", *, size: tuple[int, int] = (1400, 900), dark: bool = False) -> "Page":
        """A fresh page with that file in it, loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        page.ask("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.ask("Page.navigate", url=f"{path.resolve().as_uri()}{hash_ and '#'}{hash_}")
        page.wait("document.readyState === 'complete'")
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command to this tab."""
        return self._browser.ask(method, self._session, **params)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script: str) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + WAIT_S
        while not self.run(script):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Until what was asked for is drawn and its images are there."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        self.wait("[...document.images].every(image => image.complete)")

    def go(self, hash_: str) -> None:
        """Changes the part of the address behind #."""
        self.run(f"location.hash = {json.dumps(hash_)}")
        self.settle()

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)
            self.settle()

    def text(self, selector: str) -> str:
        """The visible text of the first element that matches."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def shot(self, path: Path | None = None) -> Image.Image:
        """What it looks like."""
        raw = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(raw)
        return Image.open(io.BytesIO(raw)).convert("RGB")

    def said(self, *methods: str) -> Sequence[dict[str, Any]]:
        """The events of this tab so far."""
        self.run("0")
        return [event["params"] for event in self._browser.events
                if event.get("sessionId") == self._session and event["method"] in methods]  # fmt: skip

    @property
    def complaints(self) -> list[str]:
        """Exceptions, and errors that the browser logged: a refused script or image, for one."""
        thrown = [str(event["exceptionDetails"]) for event in self.said("Runtime.exceptionThrown")]
        logged = [event["entry"] for event in self.said("Log.entryAdded")]
        return thrown + [entry["text"] for entry in logged if entry["level"] == "error"]

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        return [event["request"]["url"] for event in self.said("Network.requestWillBeSent")]

    def forget(self) -> None:
        """Forgets all events."""
        self._browser.events.clear()

    def close(self) -> None:
        """Closes the tab."""
        self._browser.ask("Target.closeTarget", targetId=self._target)
