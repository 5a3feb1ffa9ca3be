"""The built-in site tables, one file per group of architectures that share a module tree.

An architecture without a table offers raw module paths, ``embed`` and ``logits``.
"""

from typing import Any

from interpd.engine.families import bart, gemma, gpt2, llama, neox, t5
from interpd.plugin.site_table import SiteTable

TABLES: tuple[SiteTable, ...] = (
    gpt2.GPT2,
    gpt2.GPT_NEO,
    gpt2.OPT,
    gpt2.OPT_POST_NORM,
    neox.GPT_NEOX,
    neox.GPT_NEOX_SEQUENTIAL,
    neox.PHI,
    llama.LLAMA,
    llama.MISTRAL,
    llama.QWEN2,
    llama.QWEN3,
    llama.PHI3,
    llama.OLMO2,
    llama.STABLELM,
    llama.STABLELM_PARALLEL,
    llama.COHERE,
    gemma.GEMMA,
    gemma.GEMMA2,
    gemma.GEMMA3,
    gemma.GEMMA3_MULTIMODAL,
    t5.T5,
    t5.T5_GATED,
    bart.BART,
    bart.MARIAN,
    bart.PEGASUS,
    bart.MBART,
)
"""Every built-in table; of those of one architecture the first whose ``when`` holds is taken."""


def table_of(architecture: str, config: Any) -> SiteTable | None:
    """The built-in table of a model, by the name of its class and its config; ``None`` where there is none."""
    return next((table for table in TABLES if architecture in table.architectures and table.fits(config)), None)
