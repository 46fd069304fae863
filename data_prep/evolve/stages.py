"""Runs an item through the stages that need no other item: rules, original, canvas, overlays and pixels."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Final

from PIL import Image

from codevision_ext.drawing import DrawingTarget
from codevision_ext.errors import first_line
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import Limits
from codevision_ext.types import ExecStatus, ToolCall
from data_prep.evolve import checks
from data_prep.evolve.checks import Rejection, RejectReason
from data_prep.evolve.item import Item
from data_prep.evolve.store import ResultKey, ResultStore, content_hash
from data_prep.formats.image_files import png

CHECKS_VERSION: Final = "1"
"""Version of the checks, part of the keys of their results; a change of a check's result makes it another one."""
LIMITS: Final = Limits(wall_s=20.0, memory_mb=1024)
"""Limits of a program; it takes a tenth of a second where nothing else runs."""
CONTINUED: Final = "image_path = processed_path\n"
"""First line of every drawing but the first: it draws on the newest image, not on the one of the task."""
_BLANK: Final = Image.new("RGB", (8, 8), "white")
"""Image that the program of an original gets and doesn't use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One drawing that was executed."""

    code: str
    """Code of the overlay as it was run, and as a model writes it."""
    observation: str
    """Text that a model reads after the call."""
    image: bytes
    """Image that the code returned, a PNG file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An item, what its code draws, and the reason why it isn't used."""

    item: Item
    original: bytes = b""
    """Original image, a PNG file; empty if its code failed."""
    steps: tuple[Step, ...] = ()
    """Executed drawings, in order; fewer than the item has if one failed."""
    rejection: Rejection | None = None
    repairs: int = 0
    """Number of repairs that a model tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The result of a program."""

    status: str
    text: str
    """Observation, without addresses, which differ from process to process."""
    image: bytes = b""
    """PNG file; empty unless the status is ok."""

    def pack(self) -> bytes:
        head = json.dumps([self.status, self.text]).encode()
        return len(head).to_bytes(4) + head + self.image

    @classmethod
    def unpack(cls, raw: bytes) -> "_Run":
        end = 4 + int.from_bytes(raw[:4])
        status, text = json.loads(raw[4:end])
        return cls(status=status, text=text, image=raw[end:])


class Examiner:
    """Examines items; what the store has isn't computed again. Its methods may be called from several threads."""

    def __init__(self, store: ResultStore, tool: CodeTool) -> None:
        """Keep store and tool.

        Args:
            store: Results by key.
            tool: Tool without variables of earlier calls.
        """
        self._store, self._tool, self._counting = store, tool, Lock()
        self.executions = 0
        """Number of programs that this process ran; the store had the results of the others."""

    def examine(self, item: Item, parent: Item | None = None) -> Examined:
        """Return the item with its images; the first check that it fails is its rejection.

        Raises:
            InfraError: The sandbox is broken, or the store can't be written.
        """
        rejection = checks.check_parent(item, parent) if parent else None
        rejection = rejection or next(filter(None, (check(item) for check in checks.ITEM_CHECKS)), None)
        if rejection:
            return Examined(item=item, rejection=rejection)
        ran = self._run(item.original_code, [_BLANK], "original")
        if not ran.image:
            return Examined(item=item, rejection=_failure(RejectReason.ORIGINAL_FAILED, "the original's code", ran))
        original = _decoded(ran.image)
        rejection = checks.check_canvas(item, original) or checks.check_shown(item, original)
        steps: list[Step] = []
        images = [original]
        for number, overlay in enumerate(item.overlays, start=1):
            if rejection:
                break
            code = CONTINUED * (number > 1) + overlay.code
            drawn = self._run(code, images, "overlay")
            if not drawn.image:
                rejection = _failure(RejectReason.OVERLAY_FAILED, f"the code of overlay {number}", drawn)
                break
            images.append(_decoded(drawn.image))
            steps.append(Step(code=code, observation=drawn.text, image=drawn.image))
        if rejection is None and item.overlays:
            rejection = self._check_pixels(item, ran.image, steps)
        return Examined(item=item, original=ran.image, steps=tuple(steps), rejection=rejection)

    def _check_pixels(self, item: Item, original: bytes, steps: list[Step]) -> Rejection | None:
        """Return the rejection of the pixel checks, from the store if it has it."""
        targets = [repr(overlay.target) for overlay in item.overlays]
        content = content_hash(
            original, *(step.image for step in steps), *targets, item.relation, item.overlays[-1].code
        )
        key = ResultKey(stage="pixels", content=content, backend="", prompt=CHECKS_VERSION)
        stored = self._store.get(key)
        if stored is None:
            rejection = next(filter(None, self._pixel_checks(item, original, steps)), None)
            stored = json.dumps([rejection.reason, rejection.detail] if rejection else []).encode()
            self._store.put(key, stored)
        result = json.loads(stored)
        return Rejection(reason=RejectReason(result[0]), detail=result[1]) if result else None

    def _pixel_checks(self, item: Item, first: bytes, steps: list[Step]) -> Iterator[Rejection | None]:
        images = [_decoded(first), *(_decoded(step.image) for step in steps)]
        for number, overlay in enumerate(item.overlays, start=1):
            yield checks.check_not_before(images[0], overlay.target, number)
            yield checks.check_drawn(images[number - 1], images[number], overlay.target, number)
        if item.depth > 1:
            yield checks.check_together(images[0], images[-1], target_of(item))
        if item.relation == "sequential":
            last = item.overlays[-1]
            alone = self._run(last.code, images[:1], "overlay")
            yield checks.check_step(images[0], _decoded(alone.image) if alone.image else None, target_of(item))

    def _run(self, code: str, images: list[Image.Image], stage: str) -> _Run:
        """Run code on the last of some images, or read its result from the store. Raises SandboxError, InfraError."""
        content = content_hash(code, *(part for image in images for part in (repr(image.size), image.tobytes())))
        key = ResultKey(stage=stage, content=content, backend="sandbox", prompt=CHECKS_VERSION)
        stored = self._store.get(key)
        if stored is not None:
            return _Run.unpack(stored)
        for _ in range(2):  # a machine that is busy with something else may be too slow once
            history = ImageHistory(images[:1])
            for image in images[1:]:  # as calls add them: the newest one is at `processed_path`
                history.add(image)
            text, result = self._tool.run(history, ToolCall(code=code, image_index=len(images) - 1))
            with self._counting:
                self.executions += 1
            if result.status is not ExecStatus.TIMEOUT:
                break
        changed = len(history.images) > len(images)
        ran = _Run(status=str(result.status), text=text, image=png(history.images[-1]) if changed else b"")
        if result.status is not ExecStatus.TIMEOUT:
            self._store.put(key, ran.pack())
        return ran


def target_of(item: Item) -> DrawingTarget:
    """Return the target of all drawings of an item together."""
    return DrawingTarget(primitives=tuple(each for overlay in item.overlays for each in overlay.target.primitives))


def _failure(reason: RejectReason, what: str, ran: _Run) -> Rejection:
    return Rejection(reason=reason, detail=f"{what} ended as {ran.status}: {first_line(ran.text)}")


def _decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")
