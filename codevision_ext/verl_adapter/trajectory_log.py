"""Logs some rollouts of a training step, with their images, to W&B and TensorBoard."""

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
"""Values of `trainer.logger` that can show images."""
_READ_BYTES = 1_000_000
"""Bytes read from the end of the record file."""


def check_settings(config: DictConfig, settings: Settings) -> None:
    """Checks that `codevision.log_trajectories` has records to read and a logger that shows images.

    Raises:
        InputError: One of the two is missing; the message names both settings.
    """
    if not settings.log_trajectories:
        return
    if not settings.records:
        raise InputError("codevision.log_trajectories reads the folder codevision.records, which is null")
    backends = config.trainer.logger
    backends = [backends] if isinstance(backends, str) else list(backends)
    if not set(BACKENDS) & set(backends):
        raise InputError(
            f"codevision.log_trajectories needs {' or '.join(BACKENDS)} in trainer.logger, "
            f"which is {', '.join(backends)}"
        )


def log_step(loggers: Mapping[str, Any], settings: Settings, step: int) -> None:
    """Logs some rollouts of a training step, from the highest reward to the lowest, to verl's `loggers` by name.

    An image or a record that can't be read is a warning; training goes on.
    """
    if not settings.log_trajectories or not settings.records:
        return
    folder = Path(settings.records)
    try:
        records = [record for record in read_last(folder / "train.jsonl", _READ_BYTES) if record.step == step]
        chosen = spread_evenly([record for record in records if record.pictures], settings.log_trajectories)
        images = [(record, np.asarray(strip(record, folder)), transcript(record)) for record in chosen]
    except InputError as error:
        logger.warning("codevision.log_trajectories: %s", error)
        return
    if not images:
        logger.warning("codevision.log_trajectories: %s holds no image of a rollout of step %d", folder, step)
    elif "tensorboard" in loggers:
        _to_tensorboard(loggers["tensorboard"].writer, images, step)
    if images and "wandb" in loggers:
        _to_wandb(loggers["wandb"], images, step)


RecordImages = Sequence[tuple[Record, np.ndarray, str]]
"""Records, each with its images side by side, shape (height, width, 3), and its turns in Markdown."""


def _to_tensorboard(writer: Any, images: RecordImages, step: int) -> None:
    for at, (_, filmstrip, text) in enumerate(images):
        writer.add_image(f"trajectories/{at}", filmstrip, step, dataformats="HWC")
        writer.add_text(f"trajectories/{at}", text, step)


def _to_wandb(wandb: Any, images: RecordImages, step: int) -> None:
    filmstrips = [wandb.Image(pixels, caption=f"{record.id}\n\n{text}") for record, pixels, text in images]
    wandb.log({"trajectories": filmstrips}, step=step)
