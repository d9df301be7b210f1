"""Which dimensions of a search mattered, as far as its candidates tell."""

from msgspec import Struct


class Importance(Struct, frozen=True, kw_only=True):
    """How much each dimension has to do with what candidates are worth, by several methods."""

    candidates: int
    """Configurations that finished, from all searches of the arm: what it rests on."""
    shares: dict[str, dict[str, float]] = {}
    """Method -> dimension -> its share; those of a method sum to 1. Empty where nothing can be
    said, and a dimension is left out where the method can say nothing of it."""
    note: str = ""
    """What is not said, and why."""
