"""Makes items without a model: figures and charts with exactly computed answers."""

from data_prep.evolve.program.families import FAMILIES, Family
from data_prep.evolve.program.generator import KNOWLEDGE, TOOLS, ProgramGenerator, seeds

__all__ = ["FAMILIES", "KNOWLEDGE", "TOOLS", "Family", "ProgramGenerator", "seeds"]
