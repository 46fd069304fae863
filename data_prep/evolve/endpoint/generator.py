"""Implements the back end `endpoint`: models behind endpoints write the items."""

from typing import Final

from data_prep.evolve.endpoint.models import Models
from data_prep.evolve.endpoint.prompts import PromptFiles
from data_prep.evolve.endpoint.replies import (
    EXPANDED,
    GENERATED,
    PERCEIVED,
    expanded_item,
    generated_items,
    item_text,
    perceived_items,
    read_reply,
)
from data_prep.evolve.item import Item, Relation

NAME: Final = "endpoint"
"""Name of the back end, and the beginning of its ids."""


class EndpointGenerator:
    """Asks the models for items; implements `Generator`. Every method raises ReplyError for a reply it can't use."""

    name: str = NAME

    def __init__(self, models: Models, prompts: PromptFiles) -> None:
        self._models, self._prompts = models, prompts

    def generate(self, knowledge: tuple[str, ...], tools: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three items, easy, medium and hard."""
        name = f"{NAME}-{seed}-{number}"
        prompt = self._prompts.write("generate", knowledge="; ".join(knowledge), tools="; ".join(tools), number=number)
        text = self._models.ask("generate", prompt, content=str(number), seed=seed)
        return generated_items(read_reply(text, GENERATED, name), knowledge, tools, name)

    def perceive(self, knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three perception items of one image: surface, semantic and integrated."""
        name = f"{NAME}-p-{seed}-{number}"
        prompt = self._prompts.write("perceive", knowledge="; ".join(knowledge), number=number)
        text = self._models.ask("perceive", prompt, content=str(number), seed=seed)
        return perceived_items(read_reply(text, PERCEIVED, name), knowledge, name)

    def expand(self, item: Item, relation: Relation, seed: int) -> Item | None:
        """Return a problem on the same image with one drawing more."""
        prompt = self._prompts.write("expand", relation=relation, item=item_text(item))
        text = self._models.ask("expand", prompt, content=relation, seed=seed)
        return expanded_item(read_reply(text, EXPANDED, f"expand of {item.id}"), item, relation)
