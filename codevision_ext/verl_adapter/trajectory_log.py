"""Where do a step's rollouts go to be looked at while training runs? With their images to W&B and TensorBoard."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from omegaconf import DictConfig

from codevision_ext.config import Settings
from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, read_last
from codevision_ext.report.filmstrip import spread_evenly, strip, transcript

logger = logging.getLogger(__name__)

BACKENDS: Final = ("wandb", "tensorboard")
"""Of `trainer.logger`, those that take images."""
_READ_BYTES = 1_000_000
"""Of the end of the record file."""


def check_settings(config: DictConfig, settings: Settings) -> None:
    """Whether `codevision.log_trajectories` has something to read from and somebody to tell.

    Raises:
        InputError: it hasn't; names both settings.
    """
    if not settings.log_trajectories:
        return
    if not settings.records:
        raise InputError("codevision.log_trajectories reads what codevision.records keeps, which is null")
    backends = config.trainer.logger
    backends = [backends] if isinstance(backends, str) else list(backends)
    if not set(BACKENDS) & set(backends):
        raise InputError(
            f"codevision.log_trajectories wants {' or '.join(BACKENDS)} in trainer.logger, "
            f"which is {', '.join(backends)}"
        )


def log_step(loggers: Mapping[str, Any], settings: Settings, step: int) -> None:
    """Tells the loggers of some rollouts of a training step, from the best paid to the worst.

    What can't be read is a warning: training doesn't end for the sake of its images.

    Args:
        loggers: verl's, by name: `Tracking.logger`.
        settings: `log_trajectories` and `records` are read.
        step: Whose rollouts, from 1.
    """
    if not settings.log_trajectories or not settings.records:
        return
    folder = Path(settings.records)
    try:
        kept = [record for record in read_last(folder / "train.jsonl", _READ_BYTES) if record.step == step]
        chosen = spread_evenly([record for record in kept if record.pictures], settings.log_trajectories)
        shown = [(record, np.asarray(strip(record, folder)), transcript(record)) for record in chosen]
    except InputError as error:
        logger.warning("codevision.log_trajectories: %s", error)
        return
    if not shown:
        logger.warning("codevision.log_trajectories: %s holds no image of a rollout of step %d", folder, step)
    elif "tensorboard" in loggers:
        _to_tensorboard(loggers["tensorboard"].writer, shown, step)
    if shown and "wandb" in loggers:
        _to_wandb(loggers["wandb"], shown, step)


Shown = Sequence[tuple[Record, np.ndarray, str]]
"""A record, its images in a row (height, width, 3), its turns in Markdown."""


def _to_tensorboard(writer: Any, shown: Shown, step: int) -> None:
    for at, (_, filmstrip, text) in enumerate(shown):
        writer.add_image(f"trajectories/{at}", filmstrip, step, dataformats="HWC")
        writer.add_text(f"trajectories/{at}", text, step)


def _to_wandb(wandb: Any, shown: Shown, step: int) -> None:
    filmstrips = [wandb.Image(pixels, caption=f"{record.id}\n\n{text}") for record, pixels, text in shown]
    wandb.log({"trajectories": filmstrips}, step=step)
