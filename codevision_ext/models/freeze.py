"""Freezes parts of a Qwen-VL model, so that training leaves their weights as they are."""

import re
from collections.abc import Collection
from typing import Final

from torch import nn

from codevision_ext.errors import InputError
from codevision_ext.types import ModelPart

_PROJECTOR: Final = r"(?:^|\.)visual\.(?:merger|deepstack_merger_list)\."
NAMES: Final = {
    ModelPart.VISUAL: re.compile(rf"(?!.*{_PROJECTOR})(?:.*\.)?visual\."),
    ModelPart.PROJECTOR: re.compile(rf".*{_PROJECTOR}"),
}
"""Pattern of the weights' names of each part, in Qwen2.5-VL and Qwen3-VL alike."""


def freeze(model: nn.Module, parts: Collection[ModelPart]) -> None:
    """Switches the gradients of these parts off.

    Raises:
        InputError: the model has no weights of a part.
    """
    for part in parts:
        weights = [weight for name, weight in model.named_parameters() if NAMES[part].match(name)]
        if not weights:
            raise InputError(f"codevision.freeze: {type(model).__name__} has no weights of the part {part}")
        for weight in weights:
            weight.requires_grad_(False)
