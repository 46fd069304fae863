"""Writes the prompts for models, each from a template that is a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import jinja2

from codevision_ext.errors import InputError, first_line
from data_prep.evolve.store import content_hash

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "generate": ("knowledge", "tools", "number", "rules"),
    "perceive": ("knowledge", "number", "rules"),
    "expand": ("relation", "item", "rules"),
    "repair": ("reason", "item", "rules"),
    "check_answer": ("question", "answer", "solution", "code", "edited"),
    "check_original": ("question",),
    "check_overlay": ("question", "about", "solution"),
    "solve": ("question",),
}
"""Names that each template may use, by the name of its file without `.txt`."""
_FRAME: Final = """import matplotlib.pyplot as plt
{size}
fig = plt.figure(figsize=(w / 100, h / 100), dpi=100)
ax = fig.add_axes([0, 0, 1, 1])
{image}ax.set_xlim(0, w)
ax.set_ylim(h, 0)
ax.axis("off")
"""
HEAD: Final = _FRAME.format(size="w, h = 480, 360", image="")
"""First lines of the code of an original image."""
OVER: Final = _FRAME.format(
    size="image = plt.imread(image_path)\nh, w = image.shape[:2]",
    image='ax.imshow(image, extent=(0, w, h, 0), interpolation="nearest")\n',
)
"""First lines of the code of a drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptText:
    """A written prompt."""

    system: str
    message: str
    template: str
    """Hash of the templates that it was written from."""


class PromptFiles:
    """Templates of a folder; each file that the folder hasn't is the project's own.

    Raises:
        InputError: A template can't be read, has a fault, or uses a name that it isn't given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own = files("data_prep.evolve.endpoint") / "prompts"
        self._environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        if folder is not None and not folder.is_dir():
            raise InputError(f"prompts {folder}: isn't a folder")
        self._system, self._rules = self._read("system"), self._read("items")
        self._texts = {name: self._read(name) for name in TEMPLATES}
        for name, fields in TEMPLATES.items():
            self._render(name, self._texts[name], dict.fromkeys(fields, "x"))
        self._rules_text = self._render("items", self._rules, {"head": HEAD, "over": OVER})

    def write(self, name: str, **values: Any) -> PromptText:
        """Return the prompt of a template; equal values give equal prompts."""
        fields = {**values, "rules": self._rules_text} if "rules" in TEMPLATES[name] else values
        message = self._render(name, self._texts[name], fields)
        parts = (self._system, self._texts[name], self._rules_text if "rules" in TEMPLATES[name] else "")
        return PromptText(system=self._system, message=message, template=content_hash(*parts))

    def _read(self, name: str) -> str:
        place: Traversable = self._own / f"{name}.txt"
        if self._folder is not None and (self._folder / f"{name}.txt").exists():
            place = self._folder / f"{name}.txt"
        try:
            return place.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"prompt {place}: can't be read: {first_line(error)}") from error

    def _render(self, name: str, text: str, values: Mapping[str, Any]) -> str:
        try:
            return self._environment.from_string(text).render(values)
        except jinja2.TemplateError as error:
            raise InputError(f"prompt {name}.txt: {first_line(error)}") from error
