"""Compares items per second of an evaluation with those of the engine alone, on the same prompts.

`python benchmarks/evaluate.py [--model FOLDER] [--items N] [--rounds N] [--tokens N]` draws N items of six images. It
runs them on SGLang with the engine alone (prompts prepared, replies dropped) and in an evaluation (with prompts,
scoring, records and images), both with and without the tool, in an order that changes with each round. Without --model,
a tiny random model is built, which never calls the tool, so each item is one turn of --tokens tokens. Prints Markdown;
exits 1 if the target is missed. docs/evaluation.md has the figures.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # transformers and SGLang print many warnings at import

from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: E402

use_cpu_if_no_cuda()

from codevision_ext.config import Settings, system_prompt  # noqa: E402
from codevision_ext.engines.sglang.engine import SGLangEngine  # noqa: E402
from codevision_ext.evaluate.run import EvalItem, evaluate, rollout_seed  # noqa: E402
from codevision_ext.evaluate.suites import SUITES  # noqa: E402
from codevision_ext.evaluate.suites.base import read_suite  # noqa: E402
from codevision_ext.io.records import RecordWriter  # noqa: E402
from codevision_ext.models import tiny_model  # noqa: E402
from codevision_ext.rollout.code_tool import CodeTool, tool_schema  # noqa: E402
from codevision_ext.rollout.token_buffer import RolloutLimits  # noqa: E402
from codevision_ext.sandbox import Sandbox  # noqa: E402
from codevision_ext.task.rows import read_prompt, split_prompt  # noqa: E402
from codevision_ext.types import CoordinateSystem  # noqa: E402
from data_prep import eval_items  # noqa: E402

TARGET = 0.85
"""Minimum items per second of an evaluation, as a share of those of the engine alone."""
CONCURRENCY = 128


async def run_engine(engine: SGLangEngine, items: Sequence[EvalItem], tokens: int, *, tools: bool) -> float:
    """Returns the seconds of the engine alone for one turn of every item."""
    system = system_prompt(Settings(), tools=tools)
    ready = []
    for each in items:
        messages, images = split_prompt(read_prompt(each.row, each.name), system)
        resized = [engine.renderer.resize(image) for image in images]
        schema = [tool_schema(CoordinateSystem.ORIGINAL)] if tools else []
        ready.append((each, engine.renderer.prompt(messages, schema, resized), resized))
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(each: EvalItem, ids: list[int], resized: list[Any]) -> None:
        async with slots:
            await engine.policy(rollout_seed(0, each.name, 0))(ids, resized, tokens)

    start = time.perf_counter()
    await asyncio.gather(*[one(*prompt) for prompt in ready])
    return time.perf_counter() - start


async def run_evaluation(engine: SGLangEngine, items: Sequence[EvalItem], tokens: int, tool: CodeTool | None) -> float:
    """Returns the seconds of an evaluation of every item."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        await evaluate(
            items,
            policy=engine.policy,
            renderer=engine.renderer,
            tool=tool,
            limits=RolloutLimits(response_tokens=tokens, assistant_turns=3),
            settings=Settings(),
            out=RecordWriter(Path(folder), "rows"),
            concurrency=CONCURRENCY,
        )
        return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark; exits 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    items = read_suite(SUITES["glyphs"], eval_items.generate_items("glyphs", arguments.items, 0))
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or Path(folder) / "tiny"
        if arguments.model is None:
            tiny_model.build("qwen2_5_vl", model, texts=tiny_model.tokenizer_texts())
        with Sandbox() as sandbox, SGLangEngine(model, context=4096) as engine:
            asyncio.run(engine.load(model))
            tool = CodeTool(sandbox)
            methods: dict[str, Callable[[], Any]] = {
                "engine, prompts without the tool": lambda: run_engine(engine, items, arguments.tokens, tools=False),
                "evaluation without the tool": lambda: run_evaluation(engine, items, arguments.tokens, None),
                "engine, prompts with the tool": lambda: run_engine(engine, items, arguments.tokens, tools=True),
                "evaluation with the tool": lambda: run_evaluation(engine, items, arguments.tokens, tool),
            }
            seconds: dict[str, list[float]] = {name: [] for name in methods}
            for at in range(arguments.rounds + 1):
                for name in random.Random(at).sample(list(methods), len(methods)):
                    elapsed = asyncio.run(methods[name]())
                    if at:  # the first round warms up
                        seconds[name].append(elapsed)
    names = list(methods)
    print(f"{len(items)} items, {arguments.tokens} tokens each, {arguments.rounds} rounds\n")  # noqa: T201
    print("| | items/s | of the engine's |\n|---|---|---|")  # noqa: T201
    missed = False
    for engine_name, name in ((names[0], names[0]), (names[0], names[1]), (names[2], names[2]), (names[2], names[3])):
        rate = len(items) / statistics.median(seconds[name])
        pairs = zip(seconds[engine_name], seconds[name], strict=True)
        share = statistics.median(alone / evaluated for alone, evaluated in pairs)
        missed |= share < TARGET
        print(f"| {name} | {rate:.1f} | {share:.2f} |")  # noqa: T201
    sys.exit(missed)


if __name__ == "__main__":
    main()
