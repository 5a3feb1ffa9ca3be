"""The Backpack itself, as published, and the forms that others gave it."""

from interpd_backpack.model.backpack import BackpackForCausalLM, BackpackOutput
from interpd_backpack.model.config import BackpackConfig, RetrofitConfig
from interpd_backpack.model.retrofit import RetrofitForCausalLM, retrofit

__all__ = [
    "BackpackConfig",
    "BackpackForCausalLM",
    "BackpackOutput",
    "RetrofitConfig",
    "RetrofitForCausalLM",
    "retrofit",
]
