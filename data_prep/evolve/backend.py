"""Defines what makes items: the offline program and endpoints have one protocol."""

from typing import Protocol

from data_prep.evolve.item import Item, Relation


class Generator(Protocol):
    """Makes items; equal arguments give equal items."""

    name: str
    """Name of the back end, part of every id and key."""

    def generate(self, knowledge: tuple[str, ...], tools: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three items, easy, medium and hard, which need all of `knowledge` or draw with all of `tools`."""
        ...

    def perceive(self, knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three perception items of one image: surface, semantic and integrated."""
        ...

    def expand(self, item: Item, relation: Relation, seed: int) -> Item | None:
        """Return a problem on the same image with one drawing more; None if the item can't be expanded so."""
        ...
