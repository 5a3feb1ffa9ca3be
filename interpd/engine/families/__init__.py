"""The built-in site tables, one file per group of architectures that share a module tree.

An architecture without a table offers raw module paths, ``embed`` and ``logits``.
"""

from dataclasses import replace
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


def extended(table: SiteTable, base: SiteTable) -> SiteTable:
    """The rows of both, those of ``base`` at the paths where ``table`` has moved them; of one name ``table``'s own."""
    old, new = table.moved

    def here(path: str) -> str:
        return new + path.removeprefix(old) if path.startswith(old) else path

    own = {*(row.name for row in table.rows), *table.absent}
    rows = [replace(row, path=here(row.path), sum_through=here(row.sum_through)) for row in base.rows]
    return replace(
        base,
        family=table.family,
        architectures=table.architectures,
        block=here(base.block),
        attention=here(base.attention),
        mlp_width=(here(base.mlp_width[0]), base.mlp_width[1]),
        activation=here(base.activation),
        rows=(*(row for row in rows if row.name not in own), *table.rows),
        absent={name: why for name, why in base.absent.items() if name not in own} | dict(table.absent),
        sizes={**base.sizes, **table.sizes},
        follows=(*map(here, base.follows), *table.follows),
        lookups={**{here(path): axes for path, axes in base.lookups.items()}, **table.lookups},
    )
