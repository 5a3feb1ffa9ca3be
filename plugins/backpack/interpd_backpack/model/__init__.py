"""The Backpack itself, as published, and the forms that others gave it."""

from interpd_backpack.model.backpack import BackpackForCausalLM, BackpackOutput
from interpd_backpack.model.config import BackpackConfig

__all__ = ["BackpackConfig", "BackpackForCausalLM", "BackpackOutput"]
