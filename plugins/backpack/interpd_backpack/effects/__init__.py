"""What edits do to predictions, all of them from one forward pass: asking, and the result."""

from interpd_backpack.effects.asking import effects
from interpd_backpack.effects.results import Effects, Item

__all__ = ["Effects", "Item", "effects"]
