"""Runs each call of a search once on each image, and puts the steps of whole rollouts together from the results."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory, ImageOrigin
from codevision_ext.types import Box, ExecStatus, Orientation, Step, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownImage:
    """An image of a rollout: the task's, or one that calls made."""

    image: Image.Image
    key: bytes
    """Hash of size and pixels."""
    depth: int
    """Number of calls that made it, one after the other; 0: the task's image."""
    by_solution: bool
    """True if a call of a solution made it."""
    net: Orientation | None
    """Orientation relative to the task's image; None: unknown."""
    region: Box | None
    """Visible part in pixels of the task's image; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effect:
    """Result of a call on an image; indices are 0 for the task's image and 1 for another image that the call got."""

    step: Step
    images: tuple[KnownImage, ...]
    """New images, in the order of `step.images`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledCalls:
    """The calls of a rollout, as a real rollout would have run them."""

    steps: tuple[Step, ...]
    image_indices: tuple[int, ...]
    """Image that each call got, as `image_index` counts them."""
    images: tuple[KnownImage, ...]
    """Images of the rollout, as `image_index` counts them."""


class CallEffects:
    """Results of calls, in one sandbox and on one image; equal calls on equal images run once."""

    def __init__(self, tool: CodeTool, image: Image.Image, solutions: Collection[str]) -> None:
        """Keeps the settings.

        Args:
            tool: Runs the calls.
            image: The task's image.
            solutions: Code of the calls of solutions.
        """
        self._tool, self._solutions = tool, frozenset(solutions)
        self._effects: dict[tuple[str, bytes], _Effect] = {}
        region = Box(0, 0, *image.size)
        self.first = KnownImage(
            image=image, key=_key(image), depth=0, by_solution=False, net=Orientation.ID, region=region
        )
        """The task's image."""

    def assemble(self, calls: Sequence[tuple[str, bool]]) -> AssembledCalls:
        """Returns the steps of a rollout with these calls; runs calls that haven't run yet.

        A call is its code, and whether it gets the newest image. It gets the task's image instead if there is no newer
        one, if two calls made the newest one, or if neither it nor the newest image belongs to a solution.

        Raises:
            SandboxError: the sandbox is broken.
        """
        images, steps, indices = [self.first], [], []
        for code, newest in calls:
            index = len(images) - 1 if newest else 0
            parent = images[index]
            if parent.depth > 1 or not (parent.by_solution or code in self._solutions):
                index, parent = 0, self.first
            effect = self._effect(code, parent)
            steps.append(_placed(effect, index, images))
            indices.append(index)
        return AssembledCalls(steps=tuple(steps), image_indices=tuple(indices), images=tuple(images))

    def _effect(self, code: str, parent: KnownImage) -> _Effect:
        known = self._effects.get((code, parent.key))
        if known is None:
            known = self._effects[code, parent.key] = self._run(code, parent)
        return known

    def _run(self, code: str, parent: KnownImage) -> _Effect:
        history = ImageHistory([self.first.image])
        if parent.depth:
            history.add(parent.image)
            history.nodes.append(ImageOrigin(root=0, net=parent.net, region=parent.region))
        result = self._tool.call(history, ToolCall(code=code, image_index=len(history.images) - 1))
        images = [
            KnownImage(
                image=image,
                key=_key(image),
                depth=parent.depth + 1,
                by_solution=code in self._solutions,
                net=added.net,
                region=added.region,
            )
            for added, image in zip(result.step.images, result.images, strict=True)
        ]
        return _Effect(step=result.step, images=tuple(images))


def _placed(effect: _Effect, index: int, images: list[KnownImage]) -> Step:
    """Returns the step of a call that got the image `index` of a rollout, and adds its new images to `images`."""
    step = effect.step
    if step.status is not ExecStatus.OK:
        return Step(ok=False, parent=index, status=step.status)
    keys = [image.key for image in images]
    added, known = [], []
    for new, image in zip(step.images, effect.images, strict=True):
        if image.key in keys:
            known.append(keys.index(image.key))
            continue
        parent = index if new.parent else 0
        added.append(replace(new, node=len(images), parent=parent))
        images.append(image)
    if not added:
        parent = known[0] if known else index if step.parent else 0
        return Step(ok=True, parent=parent, noop=bool(known) or step.noop, status=step.status)
    return Step.with_images(added, status=step.status)


def _key(image: Image.Image) -> bytes:
    return hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).digest()
