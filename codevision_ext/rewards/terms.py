"""Measures the terms of the reward, with one pure function per term.

A term is a function from the valid rollouts of one prompt to raw values in input order, or a function of one rollout.
Raw values of penalties are positive, and their weights negative.

Three families use different evidence. `upstream_*` reads the names of operations, including failed calls, as in the
released code. `paper_*` reads the successful calls in order. `verified_*` reads only the provenance of returned images.
Of several images of a call, only the first is rewarded; the others count if later calls use them. So returning all
eight orientations at once earns no more than guessing one. The terms of drawings are in `drawing_terms`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import fsum

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, box_area, compose_all, inverse, iou, map_box, map_size
from codevision_ext.rewards.settings import CuriositySettings
from codevision_ext.rewards.similarity import containment
from codevision_ext.task.image_ops import CORE_OPS, CROP, required_ops
from codevision_ext.types import Box, Orientation, Rollout, Step, Task

Predicate = Callable[[Rollout], bool]
Similarity = Callable[[Box, Box], float]
"""Function from a region and a box to their similarity, in [0, 1]."""

POOR_CROP = 0.1
"""Similarity below which a crop misses the box."""
GOOD_CROP = 0.5
"""Minimum similarity of a crop that shows the box."""
RARE = 2
"""Number of correct rollouts without the tool below which the prompt needs the tool."""


def accuracy(rollout: Rollout) -> float:
    """Returns 1 for a correct answer, else 0."""
    return float(rollout.observed.correct)


def format_kept(rollout: Rollout) -> float:
    """Returns the format score, in [0, 1]."""
    return rollout.observed.format


def executed(rollout: Rollout) -> float:
    """Returns the share of calls that succeeded, in [0, 1]; 0 without a call."""
    steps = rollout.observed.steps
    return sum(step.ok for step in steps) / len(steps) if steps else 0.0


def used_any(rollout: Rollout) -> bool:
    """Returns whether the tool was called, with or without success."""
    return bool(rollout.observed.steps)


def used_optional(rollout: Rollout) -> bool:
    """Returns whether a successful call applied an optional operation."""
    return any(op not in CORE_OPS for step in _done(rollout) for op in step.ops)


def tool_benefit(group: Sequence[Rollout], used: Predicate) -> float:
    """Returns max(0, accuracy with the tool - accuracy without), in [0, 1]; 0 if all rollouts used the tool."""
    with_tool, without = _split(group, used)
    return max(0.0, _mean(with_tool) - _mean(without)) if without else 0.0


# upstream: names of the operations, failed calls included


def upstream_must(rollout: Rollout) -> float:
    """Returns the share of the required operations that were named, in [0, 1]; a crop counts by its best IoU."""
    task, names = rollout.task, _named(rollout)
    needed = set(required_ops(task.applied))
    if not needed:
        return 0.0
    credit = float(len((needed - {CROP}) & names))
    if CROP in needed & names and task.box is not None:
        credit += max((iou(crop, task.box) for step in rollout.observed.steps for crop in step.crops), default=0.0)
    return min(1.0, credit / len(needed))


def upstream_accuracy(rollout: Rollout) -> float:
    """Returns 1 for a correct answer, or `upstream_must` if a crop is required and the share is below POOR_CROP."""
    return accuracy(rollout) * (upstream_must(rollout) if _upstream_gated(rollout) else 1.0)


def upstream_necessity(group: Sequence[Rollout]) -> list[float]:
    """Returns `tool_benefit` for correct rollouts that used the tool, if few were correct without the tool."""
    benefit = tool_benefit(group, used_any) if _rarely_correct_without(group, used_any) else 0.0
    return [benefit * (r.observed.correct and used_any(r) and not _upstream_gated(r)) for r in group]


def upstream_exact(rollout: Rollout) -> float:
    """Returns 1 if core operations are required, and exactly these were named."""
    needed = CORE_OPS.intersection(required_ops(rollout.task.applied))
    return float(bool(needed) and needed == CORE_OPS & _named(rollout))


def upstream_emergent(rollout: Rollout) -> float:
    """Returns 1 for a correct answer with an optional operation."""
    return float(rollout.observed.correct and bool(_named(rollout) - CORE_OPS))


def upstream_usage(rollout: Rollout) -> float:
    """Returns the number of calls beyond 2, or beyond the number of required operations if that is larger."""
    return float(max(0, len(rollout.observed.steps) - max(2, len(set(required_ops(rollout.task.applied))))))


def upstream_spurious(rollout: Rollout) -> float:
    """Returns the number of different orientation operations that were named although none is required."""
    if ORIENTATION_OPS.keys() & set(required_ops(rollout.task.applied)):
        return 0.0
    return float(len(ORIENTATION_OPS.keys() & _named(rollout)))


def _named(rollout: Rollout) -> set[str]:
    return {op for step in rollout.observed.steps for op in step.ops}


def _upstream_gated(rollout: Rollout) -> bool:
    return CROP in required_ops(rollout.task.applied) and upstream_must(rollout) < POOR_CROP


# paper: successful calls, in order


def paper_must_by_step(rollout: Rollout) -> list[float]:
    """Returns what each call adds to the share of completed required operations; the sum is in [0, 1].

    An operation counts once. A crop adds its improvement of the best IoU. Failed calls add nothing.
    """
    task = rollout.task
    needed = required_ops(task.applied)
    counted, best, gains = {CROP}, 0.0, []
    for step in rollout.observed.steps:
        gain = 0.0
        if step.ok:
            new = {op for op in step.ops if op in needed} - counted
            counted |= new
            overlap = max(best, _best_crop(task, step))
            gain = (len(new) + overlap - best) / len(needed) if needed else 0.0
            best = overlap
        gains.append(gain)
    return gains


def paper_must(rollout: Rollout) -> float:
    """Returns the share of completed required operations, in [0, 1]."""
    return min(1.0, fsum(paper_must_by_step(rollout)))


def paper_full(rollout: Rollout) -> float:
    """Returns 1 if exactly the required operations were completed, in order, without a failed or surplus call."""
    needed, steps = required_ops(rollout.task.applied), rollout.observed.steps
    done = tuple(op for step in steps for op in step.ops if op in CORE_OPS)
    return float(bool(needed) and done == needed and all(step.ok for step in steps) and len(steps) <= len(needed))


def necessity(used: Predicate) -> Callable[[Sequence[Rollout]], list[float]]:
    """Builds the term that gives `tool_benefit` to correct rollouts with an optional operation.

    It is 0 if RARE or more rollouts of the prompt were correct without the tool; `used` selects those with the tool.
    """

    def term(group: Sequence[Rollout]) -> list[float]:
        benefit = tool_benefit(group, used) if _rarely_correct_without(group, used) else 0.0
        return [benefit * emergent(rollout) for rollout in group]

    return term


def emergent(rollout: Rollout) -> float:
    """Returns 1 for a correct answer with an optional operation in a successful call."""
    return float(rollout.observed.correct and used_optional(rollout))


def turns(rollout: Rollout) -> float:
    """Returns 1 if there are at least two more calls than required operations."""
    return float(len(rollout.observed.steps) > len(required_ops(rollout.task.applied)) + 1)


def paper_poor_crop(rollout: Rollout) -> float:
    """Returns 1 for a correct answer if a crop is required and no crop overlaps the box by POOR_CROP."""
    best = max((_best_crop(rollout.task, step) for step in _done(rollout)), default=0.0)
    return _poor_crop(rollout, best)


def paper_inappropriate(rollout: Rollout) -> float:
    """Returns 1 if no operation is required and the image was turned or mirrored."""
    turned = any(op in ORIENTATION_OPS for step in _done(rollout) for op in step.ops)
    return float(turned and not required_ops(rollout.task.applied))


def _best_crop(task: Task, step: Step) -> float:
    """Returns the best IoU of the call's crops with the box, in unmapped coordinates; 0 if no crop is required."""
    if task.box is None or CROP not in required_ops(task.applied) or CROP not in step.ops:
        return 0.0
    return max((iou(crop, task.box) for crop in step.crops), default=0.0)


# verified: provenance of the images


def verified_must_by_step(rollout: Rollout, sim: Similarity = iou) -> list[float]:
    """Returns what each call adds to the share of required operations that images show; the sum is in [0, 1].

    Orientation operations count together, once an image has the required orientation. A crop adds the improvement of
    the best similarity by the visible region.
    """
    steps, task = rollout.observed.steps, rollout.task
    needed = required_ops(task.applied)
    if not needed or not steps:
        return [0.0] * len(steps)
    count, orientation, box = _orientation_count(task), _required_orientation(task), _required_box(task)
    upright, best, gains = False, 0.0, []
    for step in steps:
        oriented = upright or (_added_image(step) and step.net is orientation)
        overlap = max(best, _fit(step, box, sim))
        gains.append((count * (oriented - upright) + overlap - best) / len(needed))
        upright, best = oriented, overlap
    return gains


def verified_must(rollout: Rollout, sim: Similarity = iou) -> float:
    """Returns the share of required operations that images show, in [0, 1]."""
    return min(1.0, fsum(verified_must_by_step(rollout, sim)))


def verified_full(rollout: Rollout, sim: Similarity = iou) -> float:
    """Returns 1 if images show all required operations, without a failed, idle or surplus call."""
    task, steps = rollout.task, rollout.observed.steps
    needed = required_ops(task.applied)
    if not steps or len(steps) > len(needed) or not all(step.ok and not step.noop for step in steps):
        return 0.0
    orientation = _required_orientation(task)
    upright = not _orientation_count(task) or any(_added_image(step) and step.net is orientation for step in steps)
    return float(upright and (CROP not in needed or _best_fit(rollout, sim) >= GOOD_CROP))


def verified_poor_crop(rollout: Rollout, sim: Similarity = iou) -> float:
    """Returns 1 for a correct answer if a crop is required and no crop overlaps the box by POOR_CROP."""
    return _poor_crop(rollout, _best_fit(rollout, sim))


def verified_inappropriate(rollout: Rollout) -> float:
    """Returns 1 if no orientation operation is required and the last used image is turned or mirrored.

    An unknown orientation isn't punished.
    """
    done = _done(rollout)
    if not done or _orientation_count(rollout.task):
        return 0.0
    turned = {image.node: image.net not in (None, Orientation.ID) for step in done for image in step.images}
    last = done[-1].parent if done[-1].node is None else done[-1].node
    return float(last is not None and turned.get(last, False))


def area_shown(rollout: Rollout, sim: Similarity = iou) -> float:
    """Returns the share of the input image that the best crop shows, in [0, 1]; of equally good crops, the smallest.

    The value is 0 if no crop is required or no image has a known region.

    Raises:
        InputError: the task lacks the size of its image.
    """
    box = _required_box(rollout.task)
    regions = [step.region for step in rollout.observed.steps if _added_image(step) and step.region is not None]
    if box is None or not regions:
        return 0.0
    if rollout.task.size is None:
        raise InputError("task.size is missing; the term 'area' needs it.")
    shown = min((-sim(region, box), box_area(region)) for region in regions)[1]
    return min(1.0, shown / max(1.0, float(rollout.task.size[0] * rollout.task.size[1])))


def faithful_crop(rollout: Rollout) -> bool | None:
    """Returns whether a crop shows at least GOOD_CROP of the box; None without a crop or without a box.

    A crop is a call whose image shows less than the whole input image.

    Raises:
        InputError: the task lacks a field that is needed to map its box.
    """
    box, size = _input_box(rollout.task), rollout.task.size
    if box is None or size is None:
        return None
    regions = [step.region for step in rollout.observed.steps if _added_image(step) and step.region is not None]
    crops = [region for region in regions if box_area(region) < size[0] * size[1]]
    return any(containment(crop, box) >= GOOD_CROP for crop in crops) if crops else None


def redundancy(rollout: Rollout) -> float:
    """Returns the repetition of crops, in [0, 1]: the mean of each later crop's best IoU with earlier crops.

    A crop is a call whose image shows another part than its parent image. Zooming in step by step overlaps little.
    """
    size = rollout.task.size
    whole = None if size is None else Box(0, 0, *size)
    shown: dict[int | None, Box] = {}
    crops: list[Box] = []
    repeats: list[float] = []
    for step in rollout.observed.steps:
        if not _added_image(step) or step.region is None:
            continue
        if step.region != shown.get(step.parent, whole):
            if crops:
                repeats.append(max(iou(step.region, crop) for crop in crops))
            crops.append(step.region)
        shown |= {image.node: image.region for image in step.images if image.region is not None}
    return fsum(repeats) / len(repeats) if repeats else 0.0


def faithful(rollout: Rollout) -> float:
    """Returns the mean score of a step judge over the calls, in [0, 1]; 0 without a call.

    Raises:
        InputError: a call has no score of a step judge.
    """
    scores = [step.faithful for step in rollout.observed.steps]
    missing = next((i for i, score in enumerate(scores) if score is None), None)
    if missing is not None:
        raise InputError(
            f"observed.steps.{missing}.faithful is missing; the term 'faithful' can't be measured without it."
        )
    return fsum(score for score in scores if score is not None) / len(scores) if scores else 0.0


def benefit(group: Sequence[Rollout]) -> list[float]:
    """Returns accuracy with the tool minus accuracy without, in [-1, 1], for every rollout that called the tool.

    The value is 0 if all rollouts or none called the tool. Unlike `necessity` it is negative if the tool misleads.
    """
    with_tool, without = _split(group, used_any)
    value = _mean(with_tool) - _mean(without) if with_tool and without else 0.0
    return [value * used_any(rollout) for rollout in group]


def curiosity(settings: CuriositySettings) -> Callable[[Sequence[Rollout]], list[float]]:
    """Builds the term that rewards calls of a tool that a group rarely calls (Pixel Reasoner, arXiv 2505.15966).

    Rollouts with a successful call get max(0, target - share of the group with a successful call), times
    `CuriositySettings.share` of the training step.
    """

    def term(group: Sequence[Rollout]) -> list[float]:
        tried = [bool(_done(rollout)) for rollout in group]
        short = max(0.0, settings.target - sum(tried) / len(tried)) if tried else 0.0
        return [short * t * settings.share(r.step) for r, t in zip(group, tried, strict=True)]

    return term


def _orientation_count(task: Task) -> int:
    return sum(op in ORIENTATION_OPS for op in required_ops(task.applied))


def _required_orientation(task: Task) -> Orientation:
    return _undo(required_ops(task.applied))


@lru_cache(maxsize=1024)
def _undo(needed: tuple[str, ...]) -> Orientation:
    return compose_all(ORIENTATION_OPS[op] for op in needed if op in ORIENTATION_OPS)


def _added_image(step: Step) -> bool:
    return step.ok and step.node is not None


def _fit(step: Step, box: Box | None, sim: Similarity) -> float:
    """Returns the similarity of the region of the call's image and the box, in [0, 1]; 0 if one is missing."""
    return 0.0 if box is None or step.region is None or not _added_image(step) else sim(step.region, box)


def _best_fit(rollout: Rollout, sim: Similarity) -> float:
    box = _required_box(rollout.task)
    return max((_fit(step, box, sim) for step in rollout.observed.steps), default=0.0)


def _required_box(task: Task) -> Box | None:
    """Returns the box to crop, in pixels of the input image; None if no crop is required or there is no box.

    Raises:
        InputError: the task lacks a field that is needed to map the box.
    """
    return _input_box(task) if CROP in required_ops(task.applied) else None


def _input_box(task: Task) -> Box | None:
    """Returns the box in pixels of the input image; None without a box. Raises what `_required_box` raises."""
    if task.box_frame not in ("input", "canonical"):
        raise InputError(f"task.box_frame is {task.box_frame!r}; it must be 'input' or 'canonical'.")
    if task.box is None:
        return None
    applied = inverse(_required_orientation(task))
    if task.box_frame == "input" or applied is Orientation.ID:
        return task.box
    if task.size is None:
        raise InputError("task.size is missing; a box in the canonical frame can't be mapped without it.")
    canonical_size = map_size(inverse(applied), task.size)
    return map_box(task.box, applied, canonical_size)


# shared


def _done(rollout: Rollout) -> list[Step]:
    return [step for step in rollout.observed.steps if step.ok]


def _poor_crop(rollout: Rollout, best: float) -> float:
    return float(rollout.observed.correct and CROP in required_ops(rollout.task.applied) and best < POOR_CROP)


def _split(group: Sequence[Rollout], used: Predicate) -> tuple[list[Rollout], list[Rollout]]:
    return [r for r in group if used(r)], [r for r in group if not used(r)]


def _mean(rollouts: Sequence[Rollout]) -> float:
    return sum(r.observed.correct for r in rollouts) / len(rollouts) if rollouts else 0.0


def _rarely_correct_without(group: Sequence[Rollout], used: Predicate) -> bool:
    return sum(r.observed.correct for r in group if not used(r)) < RARE
