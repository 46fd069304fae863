"""A step's rollouts reach TensorBoard and W&B with their images, from the folder of records."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codevision_ext.config import Settings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, RecordWriter, Turn
from codevision_ext.report.filmstrip import HEIGHT, spread_evenly, strip, transcript
from codevision_ext.types import Box, EndReason, Orientation, Outcome, Step, Task, TermScore

pytestmark = pytest.mark.filterwarnings("ignore")  # tensorboard, wandb and verl warn at import


@pytest.fixture(scope="module")
def log() -> Any:
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

    use_cpu_if_no_cuda()
    from codevision_ext.verl_adapter import trajectory_log  # noqa: PLC0415

    return trajectory_log


def rollout(writer: RecordWriter, name: str, reward: float, step: int = 3) -> Record:
    """A grey image, its right half cut out and turned, an answer with markup in it."""
    grey = (128 + round(reward),) * 3
    names = (writer.image(Image.new("RGB", (100, 50), grey)), writer.image(Image.new("RGB", (50, 50), grey)))
    call = Step(ok=True, node=1, parent=0, net=Orientation.R180, region=Box(50, 0, 100, 50))
    return Record(
        group="g",
        id=name,
        step=step,
        task=Task(size=(100, 50)),
        observed=Outcome(correct=reward > 0, format=1.0, steps=(call,), end_reason=EndReason.ANSWER),
        references=("7",),
        pictures=names,
        turns=(
            Turn(role="user", text="What?", images=names[:1]),
            Turn(role="assistant", text="<script>alert(1)</script>\n```\n# 7"),
        ),
        reward=reward,
        terms={"accuracy": TermScore(raw=1.0, weight=reward, contribution=reward)},
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three rollouts of step 3, one of step 2, and one without an image, in the folder of records."""
    writer = RecordWriter(tmp_path / "records", "train")
    kept = [rollout(writer, "old", 9.0, step=2), *(rollout(writer, f"r{v}", float(v)) for v in (1, -1, 2))]
    writer.write(*kept, replace(kept[0], id="none", step=3, pictures=(), turns=()))
    return read_settings({"records": str(writer.directory), "log_trajectories": 2})


def test_images_stand_in_a_row_with_what_was_cut_out_marked_on_the_first(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    row = np.asarray(strip(rollout(writer, "r", 1.0), tmp_path))
    assert row.shape == (HEIGHT, 512 + 8 + 256, 3)
    coloured = (row[:, :512] != row[128, 100]).any(axis=2)
    assert not coloured[:, :250].any()
    assert coloured[100, 256]
    assert coloured[250:, 300:500].all(), "the heavy side, at the top of what was turned by 180 degrees"
    assert coloured[:2, 300:500].all()
    assert not coloured[20:240, 300:500].any()


def test_nothing_that_a_model_wrote_is_markup_in_a_transcript(tmp_path: Path) -> None:
    text = transcript(rollout(RecordWriter(tmp_path), "r", 1.0))
    assert "````\n<script>alert(1)</script>\n```\n# 7\n````" in text
    assert "| accuracy | 1 | 1 | +1 |" in text


def test_the_best_and_the_worst_are_shown_and_invalid_ones_never(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    records = [rollout(writer, f"r{v}", float(v)) for v in (3, 1, 5, 2, 4)]
    records.append(replace(records[0], id="bad", observed=replace(records[0].observed, valid=False)))
    assert [record.id for record in spread_evenly(records, 3)] == ["r5", "r3", "r1"]
    assert [record.id for record in spread_evenly(records, 1)] == ["r5"]
    assert len(spread_evenly(records, 9)) == 5
    assert spread_evenly([], 2) == []


def test_tensorboard_has_the_images_and_turns_of_a_step_s_rollouts(
    log: Any, settings: Settings, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    with SummaryWriter(str(tmp_path / "tb")) as writer:
        log.log_step({"tensorboard": SimpleNamespace(writer=writer)}, settings, 3)
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert events.Tags()["images"] == ["trajectories/0", "trajectories/1"]
    (image,) = events.Images("trajectories/0")
    assert (image.step, image.width, image.height) == (3, 776, HEIGHT)
    (text,) = events.Tensors("trajectories/0/text_summary")
    assert b"**right, reward 2**" in text.tensor_proto.string_val[0]
    (text,) = events.Tensors("trajectories/1/text_summary")
    assert b"**wrong, reward -1**" in text.tensor_proto.string_val[0]


def test_wandb_has_the_images_of_a_step_s_rollouts(
    log: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb  # noqa: PLC0415

    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    quiet = wandb.Settings(silent=True, x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True)
    with wandb.init(mode="offline", dir=str(tmp_path), project="p", settings=quiet) as run:
        log.log_step({"wandb": wandb}, settings, 3)
        folder = Path(run.dir)
    images = list((folder / "media" / "images").glob("trajectories_*.png"))
    assert [Image.open(path).size for path in images] == [(776, HEIGHT)] * 2


def test_what_cannot_be_shown_is_a_warning_and_no_end_of_the_training(
    log: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        log.log_step({}, settings, 4)
        for path in Path(settings.records or "").rglob("*.png"):
            path.unlink()
        log.log_step({}, settings, 3)
    said = [record.getMessage() for record in caplog.records]
    assert "holds no image of a rollout of step 4" in said[0]
    assert ".png: not an image that can be shown" in said[1]


@pytest.mark.parametrize(
    ("section", "loggers", "said"),
    [
        ({"log_trajectories": 2}, ["tensorboard"], "reads the folder codevision.records, which is null"),
        ({"log_trajectories": 2, "records": "x"}, ["console", "file"], "needs wandb or tensorboard in trainer.logger"),
        ({"log_trajectories": 2, "records": "x"}, "console", "trainer.logger, which is console"),
        ({"log_trajectories": 2, "records": "x"}, "wandb", None),
        ({}, ["console"], None),
    ],
)
def test_a_setting_that_would_show_nothing_is_refused_at_the_start(
    log: Any, section: dict[str, Any], loggers: Any, said: str | None
) -> None:
    from omegaconf import OmegaConf  # noqa: PLC0415

    config = OmegaConf.create({"trainer": {"logger": loggers}})
    if said is None:
        log.check_settings(config, read_settings(section))
        return
    with pytest.raises(InputError, match=said):
        log.check_settings(config, read_settings(section))
