"""The judge decides exactly the answers that no rule decides; its own fault invalidates a rollout."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, data_of, fails, honest, says, serve, verdict
from test_scoring import ITEM, trajectory

from codevision_ext.config import Settings, read_judge_settings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.io.records import RecordWriter, read_records
from codevision_ext.judge.shared import close_judges
from codevision_ext.monitor.rollout_metrics import rollout_numbers
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.scoring import score_rollouts
from codevision_ext.types import EndReason


def answered(text: str, end: EndReason = EndReason.ANSWER) -> Trajectory:
    return trajectory(f"<think>t</think><answer>{text}</answer>", end=end)


GROUP = [
    answered("7"),
    answered("not 7"),
    answered("7 or 8"),
    answered("the seven of them"),
    answered("many"),
    answered("many"),
    trajectory("<think>t</think>none"),
    answered("the seven of them", EndReason.LENGTH),
    None,
]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """The process's judges end with the test."""
    yield
    close_judges()


def with_judge(server: JudgeServer, **settings: Any) -> Settings:
    return read_settings({"judge": {"base_url": server.url, "model": "m", "retries": 0, **settings}})


def test_the_judge_reads_only_what_no_rule_decides_and_equal_answers_once() -> None:
    with serve(honest) as server:
        records = score_rollouts(ITEM, "g", GROUP, with_judge(server))
        assert sorted(data_of(request)[2] for request in server.requests) == ["many", "the seven of them"]
        assert {data_of(request)[0] for request in server.requests} == {ITEM.question}
        assert [record.observed.correct for record in records] == [True, False, False, True, *[False] * 5]
        assert [record.observed.valid for record in records] == [True] * 8 + [False]
        scores = [record.verdict.score if record.verdict else None for record in records]
        assert scores == [None, None, None, 1.0, 0.0, 0.0, None, None, None]
        by_rules = score_rollouts(ITEM, "g", GROUP, Settings())
        assert [record.observed.correct for record in by_rules] == [True, *[False] * 8]
        assert all(record.verdict is None for record in by_rules)


@pytest.mark.parametrize("fault", [fails(500), says("I'd rather not say.")], ids=["down", "abstains"])
def test_a_judge_without_a_verdict_makes_the_rollout_invalid_and_moves_nobody_else_s_reward(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(lambda request: fault if data_of(request)[2] == "many" else honest(request)) as server:
        settings = with_judge(server)
        with caplog.at_level(logging.ERROR):
            records = score_rollouts(ITEM, "g", GROUP, settings)
        invalid = records[4:6]
        rest = score_rollouts(ITEM, "g", GROUP[:4] + GROUP[6:], settings)
    assert [record.observed.valid for record in records] == [True] * 4 + [False] * 2 + [True] * 2 + [False]
    for record in invalid:
        assert (record.reward, record.terms, record.answer) == (None, {}, "many")
        assert (record.observed.end_reason, record.observed.format) == (EndReason.ANSWER, 1.0)
    assert [record.reward for record in records[:4] + records[6:]] == [record.reward for record in rest]
    if fault.status == 500:
        assert all(record.verdict is None for record in invalid)
        assert "rollouts of glyphs-3 are invalid: the judge m at http" in caplog.text
    else:
        assert all(record.verdict is not None and record.verdict.score is None for record in invalid)
    logged = [rollout_numbers(r, t, settings) for r, t in zip(records, GROUP, strict=True)]
    assert all(values.keys() == logged[0].keys() for values in logged)
    assert [values["valid"] for values in logged[3:6]] == [1, 0, 0]
    assert [values["abstained"] for values in logged[3:6]] == [0, *[float(fault.status == 200)] * 2]


def test_an_answer_that_fills_the_judge_s_context_is_wrong_and_never_sent() -> None:
    with serve(honest) as server:
        (record,) = score_rollouts(ITEM, "g", [answered("seven " * 2000)], with_judge(server))
    assert (record.observed.correct, record.observed.valid, server.requests) == (False, True, [])


def test_model_and_prompt_stand_in_the_record_and_come_back_from_it(tmp_path: Path) -> None:
    with serve(lambda request: says("Same.\n" + verdict(request))) as server:
        (record,) = score_rollouts(ITEM, "g", [answered("many")], with_judge(server))
    assert record.verdict is not None
    assert (record.verdict.model, record.verdict.prompt, len(record.verdict.prompt_sha256)) == ("m", "general", 64)
    writer = RecordWriter(tmp_path, "train")
    writer.write(record)
    assert json.loads(writer.path.read_text())["verdict"]["score"] == 1.0
    assert list(read_records(writer.path)) == [record]


def test_the_cache_serves_the_next_run(tmp_path: Path) -> None:
    with serve(honest) as server:
        first = score_rollouts(ITEM, "g", GROUP, with_judge(server, cache=str(tmp_path / "cache")))
        close_judges()
        again = score_rollouts(ITEM, "g", GROUP, with_judge(server, cache=str(tmp_path / "cache")))
    assert len(server.requests) == 2
    assert again == first


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", "s3cret")
    with serve(honest) as server:
        settings = with_judge(server, api_key_env="MY_JUDGE_KEY")
        score_rollouts(ITEM, "g", [answered("many")], settings)
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"retry": 3}, "codevision.judge.retry: unknown setting; known are base_url, model, .*retries"),
        ({"base_url": "x"}, "codevision.judge.base_url: 'x' doesn't begin with http:// or https://"),
        ({"model": ""}, "codevision.judge.model: "),
        ({"timeout_s": 0}, "codevision.judge.timeout_s: "),
        ({"retries": -1}, "codevision.judge.retries: "),
        ({"api_key_env": "NO_SUCH"}, "codevision.judge.api_key_env: the environment has no variable NO_SUCH"),
        ({"prompts": "/nowhere"}, "codevision.judge.prompts: path does not point to a directory"),
        ({"request": {"messages": []}}, "codevision.judge.request: messages is set by the judge itself"),
        ({"request": [1]}, "codevision.judge.request: must be a valid dictionary"),
    ],
    ids=str,
)
def test_a_judge_that_can_t_be_is_refused_at_start_by_setting(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        read_settings({"judge": {"base_url": "http://x/v1", "model": "m"} | change})


def test_a_judge_needs_a_place_and_a_name() -> None:
    with pytest.raises(InputError, match=r"^codevision\.judge\.model: is missing$"):
        read_settings({"judge": {"base_url": "http://x/v1"}})
    with pytest.raises(InputError, match=r"^codevision\.judge\.base_url: is missing$"):
        read_judge_settings(model="m")


def test_a_request_may_come_from_verl_s_config_or_as_json() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    section = omegaconf.OmegaConf.create({"base_url": "http://x", "model": "m", "request": {"a": {"b": [1]}}})
    settings = read_settings({"judge": section})
    assert settings.judge is not None
    assert settings.judge.model_dump()["request"] == {"a": {"b": [1]}}
    assert type(settings.judge.request["a"]) is dict
    assert read_judge_settings(base_url="http://x", model="m", request='{"top_p": 1}').request == {"top_p": 1}
