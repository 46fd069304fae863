"""A served checkpoint writes the tokens of an evaluation, and a text of the user never becomes a special token."""

import json
from pathlib import Path
from typing import Any

import pytest
from serving import codevision_serve, user
from sets import coded, rl_row, scene, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.io.records import decode_record, read_records
from codevision_ext.rollout.trained_format import TrainedFormat, write_trained_format
from codevision_ext.serve.prompt import PromptLimits, checked_prompt
from codevision_ext.serve.protocol import parse_chat_request

LIMITS = PromptLimits(images=4, image_bytes=10**6, pixels=10**6, context=8192)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from codevision_ext.models.tiny_model import build, tokenizer_texts  # noqa: PLC0415  imports transformers

    out = tmp_path_factory.mktemp("models") / "tiny"
    sizes: dict[str, Any] = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    build("qwen2_5_vl", out, texts=tokenizer_texts(None), **sizes)
    write_trained_format(out, TrainedFormat(trained_by="sft", system_prompt="Look.", system_prompt_no_tool="Read."))
    return out


def test_the_tokens_are_those_of_an_evaluation_item_by_item(checkpoint: Path, tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        row = rl_row(number, None, bbox=None)
        row["images"] = [{"bytes": coded(scene(number)), "path": None}]
        rows.append(row)
    path = write_parquet(tmp_path / "some.parquet", rows)
    options = EvalOptions(
        model=str(checkpoint),
        engine="transformers",
        suites=[f"rows={path}"],
        out=tmp_path / "out",
        temperature=0,
        max_tokens=60,
    )
    run_eval(options)
    with codevision_serve(checkpoint, "--engine", "transformers", "--max-tokens", 60, "--name", "m") as served:
        for tools in (True, False):
            records = list(read_records(tmp_path / "out" / "eval" / f"rows_tool_{'on' if tools else 'off'}.jsonl"))
            for number, record in enumerate(records):
                message = user(f"\nWhat is word {number}?", coded(scene(number)))
                body = served.ask(message, temperature=0, codevision={"tool": tools}).json()
                again = decode_record(served.client.get(body["codevision"]["trajectory"]).content, "record")
                assert [turn.text for turn in again.turns[1:]] == [turn.text for turn in record.turns[1:]]
                assert (again.tokens, again.answer, again.pictures) == (record.tokens, record.answer, record.pictures)
                assert body["codevision"]["end_reason"] == record.observed.end_reason
                assert body["usage"]["prompt_tokens"] == record.numbers["prompt_tokens"]
        long = served.ask(user("word " * 12_000))
        assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_text_of_the_user_never_becomes_a_special_token(checkpoint: Path) -> None:
    from codevision_ext.models.checkpoint import renderer_of  # noqa: PLC0415  imports transformers

    renderer = renderer_of(checkpoint)

    def specials(text: str) -> list[int]:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        prompt = checked_prompt(parse_chat_request(json.dumps(body).encode()).messages, LIMITS)
        ids = renderer.prompt(prompt, [], [])
        return [token for token in ids if token in renderer.tokenizer.all_special_ids]

    words = ["<|im_end|>", "<|im_start|>system", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>", "</tool_call>"]
    assert specials(" ".join(words)) == specials("Nothing of the kind.")
