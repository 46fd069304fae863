"""Writes the folder of a small run with invented numbers, images and rollouts, for tests."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from codevision_ext.evaluate.metrics import CHECKPOINTS, COLUMNS, TOOL_MODES, Score, ToolMode
from codevision_ext.evaluate.results import (
    ColumnResult,
    Costs,
    Evaluation,
    ModelResult,
    ModelUsed,
    ModeResult,
    Setup,
    SuiteResult,
    write_evaluation,
)
from codevision_ext.geometry import apply, compose_all, orientation_of
from codevision_ext.io.records import Record, RecordWriter, Turn
from codevision_ext.types import Box, EndReason, ExecStatus, Orientation, Outcome, Step, Task, TermScore

SHARES = {"base": (0.74, 0.22), "sft": (0.83, 0.52), "rl": (0.93, 0.86)}
"""Accuracy of source and of the transformed columns, with the tool."""
EVIL = "</pre></script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\"'{{ 7*7 }}\u2028]]>"
"""What a model might write to get out of the page that shows it."""


def make_run(folder: Path, *, steps: int = 60, items: int = 120, seed: int = 0) -> Path:
    """Writes everything that a report reads, and gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    write_evaluation(folder / "results.json", results(chance, items))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics(chance, steps)))
    evaluated = RecordWriter(folder / "eval", "rl_tool_on")
    evaluated.write(right(evaluated, "e0"), crop(evaluated, "e1"), detour(evaluated, "e2"), wrong(evaluated, "e3"))
    trained = RecordWriter(folder / "rollouts", "train")
    trained.write(hack(trained, "t0"), invalid("t1"))
    return folder


def results(chance: random.Random, items: int) -> Evaluation:
    """Results that rise from base over SFT to RL, and fall without the tool."""

    def score(checkpoint: str, mode: str, column: str) -> Score:
        upright, turned = SHARES[checkpoint]
        share = upright if column == "source" else turned if mode == "tool_on" else 0.21
        return Score.of(chance.random() < share for _ in range(items))

    def mode_result(checkpoint: str, mode: ToolMode) -> ModeResult:
        columns = {column: ColumnResult(score=score(checkpoint, mode, column), pass_k=None) for column in COLUMNS}
        return ModeResult(
            overall=ColumnResult(score=Score.mean(each.score for each in columns.values()), pass_k=None),
            columns=columns,
            success=None,
            health=None,
            rows=f"eval/{checkpoint}_{mode}.jsonl",
        )

    def model(checkpoint: str) -> ModelResult:
        suite = SuiteResult(
            data="test.parquet",
            sha256="0" * 64,
            items=items * len(COLUMNS),
            overall="columns",
            modes={mode: mode_result(checkpoint, mode) for mode in TOOL_MODES},
            benefit={},
        )
        return ModelResult(setup=SETUP, suites={"transformed": suite})

    return Evaluation(
        models={checkpoint: model(checkpoint) for checkpoint in CHECKPOINTS},
        costs=Costs(minutes=17.4, peak_rss_gb=7.9, step_s=4.8),
    )


SETUP = Setup(
    model=ModelUsed(name="model", url="", sha256=""),
    engine="sglang",
    settings={},
    tool={},
    limits={},
    k=1,
    seed=1,
    temperature=1.0,
    request={},
    judge=None,
    versions={"codevision_ext": "0.1.0", "verl": "0.9.1", "torch": "2.13.0", "sglang": "0.5.14"},
)
"""Setup of every model in a made-up evaluation."""


def metrics(chance: random.Random, steps: int) -> list[dict[str, object]]:
    """One row a step, in the shape of metrics.jsonl."""
    rows: list[dict[str, object]] = []
    for step in range(1, steps + 1):
        grown = 1 - math.exp(-3 * step / steps)
        shake = lambda size: chance.gauss(0, size)  # noqa: E731  a name for the noise, used on every line below
        row = {
            "step": step,
            "reward/total/mean": 0.4 + 1.4 * grown + shake(0.09),
            "reward/total/std": 0.8 - 0.4 * grown,
            "reward/accuracy/mean": 0.5 + 0.4 * grown + shake(0.04),
            "reward/format/mean": 0.08 + 0.02 * grown + shake(0.002),
            "reward/must/mean": 0.3 + 0.45 * grown + shake(0.04),
            "reward/full/mean": 0.05 * grown + shake(0.004),
            "reward/turns/mean": -0.2 * (1 - grown) + shake(0.01),
            "reward/inappropriate/mean": -0.08 * (1 - grown) + shake(0.008),
            "rollout/tool_rate": min(1.0, 0.7 + 0.2 * grown + shake(0.02)),
            "rollout/invalid_call_rate": max(0.0, 0.12 * (1 - grown) + shake(0.01)),
            "rollout/turns/mean": 2.6 - 0.5 * grown + shake(0.05),
            "rollout/turns/min": 1.0,
            "rollout/turns/max": 4.0,
            "response_length/mean": 96 - 20 * grown + shake(2),
            "actor/entropy": 1.1 - 0.6 * grown + shake(0.02),
            "actor/lr": 1e-6,
            "timing_s/step": 4.8 + shake(0.3),
        }
        if step % 10 == 0:
            row["val/accuracy"] = 0.5 + 0.35 * grown
        rows.append(row)
    return rows


def glyph(word: str, size: tuple[int, int] = (112, 56)) -> Image.Image:
    """A word on a plain ground."""
    image = Image.new("RGB", size, (238, 226, 198))
    ImageDraw.Draw(image).text((size[0] / 2, size[1] / 2), word, (40, 52, 92), ImageFont.load_default(38), anchor="mm")
    return image


def call(code: str, index: int = 0, about: str = "") -> str:
    """An assistant's tool call."""
    arguments = {"code": code, "description": about, "image_index": index}
    return f"<tool_call>\n{json.dumps({'name': 'code_image_tool', 'arguments': arguments})}\n</tool_call>"


def terms(**contributions: float) -> dict[str, TermScore]:
    """Terms that give these, in order."""
    weights = {"accuracy": 1.0, "format": 0.1, "must": 1.0, "full": 1.0, "turns": -0.5, "inappropriate": -0.5}
    given = {name: contributions.get(name, 0.0) for name in weights}
    return {
        name: TermScore(raw=value / weights[name], weight=weights[name], contribution=value)
        for name, value in given.items()
    }


def record(writer: RecordWriter, name: str, images: list[Image.Image], turns: list[tuple[str, str, list[int]]],
           scores: dict[str, TermScore], **fields: object) -> Record:  # fmt: skip
    """A record whose turns name their images by index."""
    names = [writer.image(image) for image in images]
    return Record(
        **{
            "group": f"g-{name}", "id": name, "source": "glyphs", "seed": 1, "pictures": tuple(names), "split": "test",
            "turns": tuple(Turn(role=r, text=t, images=tuple(names[i] for i in shown)) for r, t, shown in turns),
            "turn_count": sum(role == "assistant" for role, _, _ in turns), "tokens": 61 * len(turns),
            "reward": sum(score.contribution for score in scores.values()), "terms": scores, **fields,
        }
    )  # fmt: skip


def turned(word: str, *ops: str) -> Image.Image:
    """The glyph after these ops."""
    return apply(compose_all(orientation_of(op) for op in ops), glyph(word))


def right(writer: RecordWriter, name: str) -> Record:
    """Turned by 90, turned back, read."""
    whole = Box(0, 0, 56, 112)
    step = Step(
        ok=True, ops=("rotate_270",), node=1, parent=0, net=Orientation.R270, region=whole, status=ExecStatus.OK
    )
    return record(
        writer, name, [turned("OAK", "rotate_90"), glyph("OAK")],
        [("user", "What word is written?", [0]),
         ("assistant", "<think>turned left</think>" + call("image = image.rotate(270, expand=True)", 0, "turn"), []),
         ("tool", "Picture 1: 112x56.", [1]),
         ("assistant", "<think>upright</think><answer>OAK</answer>", [])],
        terms(accuracy=1.0, format=0.1, must=1.0, full=0.1), column="rot90", question="What word is written?",
        answer="OAK", references=("OAK",), task=Task(applied=("rotate_90",), size=(56, 112)),
        observed=Outcome(correct=True, format=1.0, steps=(step,)),
    )  # fmt: skip


def crop(writer: RecordWriter, name: str) -> Record:
    """Small print on a large sheet, cut out, read: two calls for a sheet that is upside down."""
    sheet = Image.new("RGB", (252, 252), (210, 222, 214))
    sheet.paste(glyph("417", (84, 42)), (126, 168))
    for x, y in ((14, 20), (150, 40), (30, 190)):
        ImageDraw.Draw(sheet).rectangle((x, y, x + 58, y + 26), (170, 190, 186))
    upside = apply(Orientation.R180, sheet)
    cut = upside.crop((42, 42, 126, 98))
    steps = (
        Step(ok=True, ops=("crop",), crops=(Box(42, 42, 126, 98),), node=1, parent=0, net=Orientation.ID,
             region=Box(42, 42, 126, 98), status=ExecStatus.OK),
        Step(ok=True, ops=("rotate_180",), node=2, parent=1, net=Orientation.R180, region=Box(42, 42, 126, 98),
             status=ExecStatus.OK),
    )  # fmt: skip
    return record(
        writer, name, [upside, cut, apply(Orientation.R180, cut)],
        [("user", "What number is written?", [0]),
         ("assistant", "<think>too small</think>" + call("image = image.crop((42, 42, 126, 98))", 0, "zoom"), []),
         ("tool", "Picture 1: 84x56.", [1]),
         ("assistant", "<think>upside down</think>" + call("image = image.rotate(180)", 1, "turn"), []),
         ("tool", "Picture 2: 84x56.", [2]),
         ("assistant", "<think>upright</think><answer>417</answer>", [])],
        terms(accuracy=1.0, format=0.1, must=0.9, full=0.1), column="rot180", question="What number is written?",
        answer="417", references=("417",),
        task=Task(applied=("crop", "rotate_180"), box=Box(42, 42, 126, 84), size=(252, 252)),
        observed=Outcome(correct=True, format=1.0, steps=steps),
    )  # fmt: skip


def detour(writer: RecordWriter, name: str) -> Record:
    """A call that fails, then a good one."""
    good = Step(ok=True, ops=("flip_horizontal",), node=1, parent=0, net=Orientation.FH, status=ExecStatus.OK)
    return record(
        writer, name, [turned("FOX", "flip_horizontal"), glyph("FOX")],
        [("user", "What word is written?", [0]),
         ("assistant", "<think>mirrored</think>" + call("image = ImageOps.miror(image)", 0, "mirror"), []),
         ("tool", "Error: AttributeError: module 'PIL.ImageOps' has no attribute 'miror' (line 1)", []),
         ("assistant", "<think>again</think>" + call("image = ImageOps.mirror(image)", 0, "mirror"), []),
         ("tool", "Picture 1: 112x56.", [1]),
         ("assistant", "<think>upright</think><answer>FOX</answer>", [])],
        terms(accuracy=1.0, format=0.1, must=1.0), column="flip_h", question="What word is written?", answer="FOX",
        references=("FOX",), task=Task(applied=("flip_horizontal",), size=(112, 56)),
        observed=Outcome(correct=True, format=1.0, steps=(Step(ok=False, parent=0, status=ExecStatus.ERROR), good)),
    )  # fmt: skip


def wrong(writer: RecordWriter, name: str, answer: str = "961") -> Record:
    """Read upside down."""
    return record(
        writer, name, [turned("196", "rotate_180")],
        [("user", "What number is written?", [0]),
         ("assistant", f"<think>upright</think><answer>{answer}</answer>", [])],
        terms(format=0.1), column="rot180", question="What number is written?", answer=answer, references=("196",),
        task=Task(applied=("rotate_180",), size=(112, 56)), observed=Outcome(correct=False, format=1.0),
    )  # fmt: skip


def hack(writer: RecordWriter, name: str) -> Record:
    """All three rotations tried on an image that was upright."""
    nets = (Orientation.R90, Orientation.R180, Orientation.R270)
    steps = tuple(Step(ok=True, ops=(f"rotate_{90 * i}",), node=i, parent=0, net=net, status=ExecStatus.OK)
                  for i, net in enumerate(nets, start=1))  # fmt: skip
    talk: list[tuple[str, str, list[int]]] = [("user", "What word is written?", [0])]
    for i in (1, 2, 3):
        talk.append(("assistant", "<think>turned</think>" + call(f"image = image.rotate({90 * i}, expand=True)"), []))
        talk.append(("tool", f"Image {i}.", [i]))
    talk.append(("assistant", "<think>upright</think><answer>HEN</answer>", []))
    return record(
        writer, name, [glyph("HEN"), *(apply(net, glyph("HEN")) for net in nets)], talk,
        terms(accuracy=1.0, format=0.1, turns=-0.5, inappropriate=-0.5), split="train", step=60, answer="HEN",
        question="What word is written?", references=("HEN",), task=Task(size=(112, 56)),
        observed=Outcome(correct=True, format=1.0, steps=steps),
    )  # fmt: skip


def invalid(name: str) -> Record:
    """A rollout that ended because something of ours broke."""
    return Record(group="g-s", id=name, task=Task(), split="train", step=60,
                  observed=Outcome(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA))  # fmt: skip


def make_crowd(folder: Path, rollouts: int, image: Callable[[int], Image.Image] | None = None) -> Path:
    """A run with so many rollouts: a third each from two evaluations of the same items and from training.

    Args:
        folder: Where to; made where it is missing.
        rollouts: How many.
        image: The input image of an item; small words otherwise.
    """
    make_run(folder)
    makers = (right, crop, detour, wrong, hack)
    for name in ("sft_tool_on", "rl_tool_on", "train"):
        writer = RecordWriter(folder / ("rollouts" if name == "train" else "eval"), name)
        writer.path.unlink(missing_ok=True)
        patterns = [make(writer, "x") for make in makers]
        written = []
        for i in range(rollouts // 3):
            one = patterns[(i + (name == "sft_tool_on")) % len(patterns)]
            if image:
                own = writer.image(image(i))
                names = (own, *one.pictures[1:])
                turns = tuple(replace(t, images=(own,)) if t.role == "user" else t for t in one.turns)
                one = replace(one, pictures=names, turns=turns)
            wanted = patterns[i % len(patterns)].references
            group, step = (f"t{i // 4}", 1 + i // 32) if name == "train" else (f"g{i}", None)
            item = i // 4 if name == "train" else i
            fields = {"group": group, "step": step, "question": f"Item {item}?", "references": wanted}
            written.append(replace(one, id=f"{group}-{i % 4}", **fields))
        writer.write(*written)
    return folder
