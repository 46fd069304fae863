"""A scripted endpoint on loopback for tests of the flywheel: it writes, checks, repairs, solves and expands triangles.

What goes wrong is planned by the number of a call: `Script(plan={3: "repair"})`.
"""

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
from evolve_stand_in import LEVELS, ProgramGenerator, corners, triangle
from judge_server import Reply, Request, fails, says
from PIL import Image

from codevision_ext.task.drawings import plain_drawing
from data_prep.evolve.item import ITEMS, Item, Overlay

BEGINNINGS = {
    "generate": "Write exactly three problems",
    "perceive": "Write one image",
    "expand": "Make this problem harder",
    "repair": "The image and the drawing of this problem are right",
    "check_answer": "Check the answer",
    "check_original": "Check the attached image",
    "check_overlay": "Check the drawing",
}
"""First words of the message of each stage; other messages are blind solves."""
TOKENS = (1_000, 500)
"""Tokens of each prompt and each reply."""


def message_of(request: Request) -> str:
    """Returns the text of the last message."""
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def stage_of(request: Request) -> str:
    """Returns the stage that a request belongs to."""
    text = message_of(request)
    return next((stage for stage, words in BEGINNINGS.items() if text.startswith(words)), "solve")


def images_of(request: Request) -> list[Image.Image]:
    """Returns the images of a request."""
    content = request["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"] if content[0] != "W" else []
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in urls]


def is_edited(image: Image.Image) -> bool:
    """Returns whether an image shows a drawing, which is red."""
    red, green, blue = np.moveaxis(np.asarray(image, dtype=int), 2, 0)
    return bool(((red > 180) & (green < 90) & (blue < 90)).sum() > 20)


def place_of(text: str) -> tuple[int, int]:
    """Returns number and level of the triangle that a text names."""
    match = re.search(r"triangle (\d+)\.(\d)", text)
    assert match, text
    return int(match[1]), int(match[2])


def truth(question: str) -> str:
    """Returns the right answer of a question."""
    number, level = place_of(question)
    a, b, c = corners(number, level, 0)
    if ratio := re.search(r"divides AC as (\d):1", question):
        half = int(ratio[1])
        point = ((a[0] * half + c[0]) // (half + 1), (a[1] * half + c[1]) // (half + 1))
        return str(round(math.dist(b, point)))
    return triangle(number, level, 0).answer


def plain_overlay(overlay: Overlay, tool: str = "") -> dict[str, Any]:
    """Returns a drawing as a model writes it."""
    target = plain_drawing(overlay.target)["primitives"]
    return {"code": overlay.code, "target": target, "about": overlay.about, "tool": tool or overlay.tool}


def plain_item(item: Item, tool: str = "") -> dict[str, Any]:
    """Returns a problem as a model writes it."""
    return {
        "difficulty": item.difficulty,
        "question": item.question,
        "answer": item.answer,
        "solution": item.solution,
        "width": item.size[0],
        "height": item.size[1],
        "original_code": item.original_code,
        "overlays": [plain_overlay(overlay, tool) for overlay in item.overlays],
        "knowledge": ["(Plane Geometry)-(Triangle)-(Medians)"],
        "elements": [
            {"kind": each.kind, "fields": dict(each.fields), "semantic": each.semantic} for each in item.elements
        ],
    }


@dataclass
class Script:
    """Answers requests as planned; may be called from several threads."""

    plan: Mapping[int, str] = field(default_factory=dict)
    """Fault by number of the generator's call: `broken`, `cut`, `refused`, `two`, `busy`, `slow`, `reject`, `repair`,
    `misplaced`, `hopeless`, `unreadable`, `unsolved`, `not_needed`."""
    always: str = ""
    """Fault of all other calls."""
    seen: Counter[str] = field(default_factory=Counter)
    """Number of requests by stage."""
    bodies: Counter[str] = field(default_factory=Counter)
    """Number of times that each request was answered with a completion."""
    lock: Any = field(default_factory=Lock)

    def __call__(self, request: Request) -> Reply:
        stage = stage_of(request)
        body = json.dumps(request, sort_keys=True)
        with self.lock:
            self.seen[stage] += 1
            first, second = self.bodies[body + "?"] == 0, self.bodies[body + "?"] == 1
            self.bodies[body + "?"] += 1
        number = self._number(request, stage)
        fault = self.plan.get(number, self.always)
        if fault == "busy" and (first or second):
            return fails(429) if first else fails(500)
        if fault == "slow" and first:
            return replace(says("{}"), delay_s=5.0)
        reply = getattr(self, f"_{stage}")(request, number, fault)
        with self.lock:
            self.bodies[body] += 1
        return reply if isinstance(reply, Reply) else says(json.dumps(reply), tokens=TOKENS)

    @property
    def repeated(self) -> int:
        """Number of completions that were given for a request that had one already."""
        return sum(count - 1 for body, count in self.bodies.items() if not body.endswith("?"))

    def _number(self, request: Request, stage: str) -> int:
        text = message_of(request)
        if stage in ("generate", "perceive"):
            match = re.search(r"This is call (\d+)", text)
            assert match
            return int(match[1])
        return int(match[1]) if (match := re.search(r"(?:triangle|image) (\d+)", text)) else -1

    def _generate(self, request: Request, number: int, fault: str) -> Reply | dict[str, Any]:
        if fault == "broken":
            return says('{"items": [{"difficulty": "easy", ', tokens=TOKENS)
        if fault == "cut":
            return says('{"items": [', finish="length", tokens=TOKENS)
        if fault == "refused":
            return says(None, finish="content_filter", tokens=TOKENS)
        tools = re.search(r"with all of these tools, .*? in this order: ([^.]*)\.", message_of(request))
        items = [plain_item(triangle(number, level, 0), tools[1] if tools else "") for level in range(3)]
        if fault in ("repair", "hopeless"):
            for item in items:
                item |= {"answer": "9999", "solution": "It is 9999."}
        return {"items": items[:2] if fault == "two" else items}

    def _perceive(self, _request: Request, number: int, _fault: str) -> dict[str, Any]:
        items = ProgramGenerator().perceive(("plane geometry",), number, 0)
        questions = [{"question": each.question, "answer": each.answer, "solution": each.solution} for each in items]
        whole = plain_item(items[0])
        return {name: whole[name] for name in ("width", "height", "original_code", "elements")} | {
            "questions": questions
        }

    def _expand(self, request: Request, number: int, _fault: str) -> Reply | dict[str, Any]:
        text = message_of(request)
        item = ITEMS.load(re.split(r"The problem as JSON:\n|\n\nRules", text)[1].encode(), "prompt")
        level = LEVELS.index(next(name for name in LEVELS if f"-{name}" in item.id))
        known = replace(item, id=f"stand-0-{number}-{level}", knowledge=triangle(0, 0, 0).knowledge)
        child = ProgramGenerator().expand(known, "parallel", 0)
        assert child
        texts = {name: getattr(child, name) for name in ("question", "answer", "solution")}
        return texts | {"overlay": plain_overlay(child.overlays[-1]), "knowledge": ["Plane Geometry/Ratio"]}

    def _repair(self, request: Request, _number: int, fault: str) -> dict[str, Any]:
        question = re.search(r'"question": "(.*?)"', message_of(request))
        assert question
        answer = "9998" if fault == "hopeless" else truth(question[1])
        return {"question": question[1], "answer": answer, "solution": f"The median is {answer} pixels long."}

    def _score(self, score: int) -> dict[str, Any]:
        return {"score": score, "reason": "It was checked."}

    def _check_answer(self, request: Request, _number: int, _fault: str) -> dict[str, Any]:
        text = message_of(request)
        answer = re.search(r"^Answer: (.*)$", text, re.M)
        assert answer
        return self._score(9 if answer[1].startswith("{") or answer[1] == truth(text) else 2)

    def _check_original(self, request: Request, _number: int, fault: str) -> Reply | dict[str, Any]:
        assert [is_edited(image) for image in images_of(request)] == [False]
        return (
            says("I like it.", tokens=TOKENS) if fault == "unreadable" else self._score(3 if fault == "reject" else 10)
        )

    def _check_overlay(self, request: Request, _number: int, fault: str) -> dict[str, Any]:
        assert [is_edited(image) for image in images_of(request)] == [False, True]
        return self._score(4 if fault == "misplaced" else 8)

    def _solve(self, request: Request, _number: int, fault: str) -> dict[str, Any]:
        (image,) = images_of(request)
        right = is_edited(image) if not fault.startswith(("unsolved", "not_needed")) else fault == "not_needed"
        return {"answer": truth(message_of(request)) if right else "0"}
