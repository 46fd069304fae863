"""Tests that the stored corpus is the one that the code writes, and has no answers."""

import json
import re
from importlib.resources import files
from pathlib import Path

from typer.testing import CliRunner

from data_prep.cli.app import app
from data_prep.formats.schema import Demonstration
from data_prep.tasks.reading import tokenizer_corpus

STORED = files("codevision_ext") / "prompts" / "corpus.jsonl"


def test_the_stored_corpus_is_the_one_that_the_command_writes(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["corpus", "--out", str(tmp_path / "corpus.jsonl")])
    assert result.exit_code == 0
    fresh = (tmp_path / "corpus.jsonl").read_text()
    assert fresh == STORED.read_text(), "run: python -m data_prep corpus --out codevision_ext/prompts/corpus.jsonl"


def test_no_answer_stands_in_the_corpus(demonstrations: list[Demonstration]) -> None:
    texts = [*tokenizer_corpus.texts(demonstrations), *map(json.loads, STORED.read_text().splitlines())]
    assert len(set(texts)) > 100
    assert not [text for text in texts if re.search(r"<answer>\w", text)]
    assert not [text for text in texts if re.search(r"\b[A-Z]{3}\b(?!_)", text) and "What" in text]


def test_everything_that_a_turn_says_is_in_the_corpus(demonstrations: list[Demonstration]) -> None:
    texts = list(tokenizer_corpus.texts(demonstrations))
    assert len(texts) == len(set(texts))
    for demonstration in demonstrations:
        for message in demonstration.messages[1:-1]:
            assert message.content.removesuffix("<image>") in texts
