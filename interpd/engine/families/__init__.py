"""The built-in site tables, one file per group of architectures that share a module tree.

An architecture without a table offers raw module paths, ``embed`` and ``logits``.
"""

from typing import Any

from interpd.engine.families.gpt2 import GPT2
from interpd.engine.families.llama import LLAMA
from interpd.plugin.site_table import SiteTable

TABLES: tuple[SiteTable, ...] = (GPT2, LLAMA)
"""Every built-in table; of those of one architecture the first whose ``when`` holds is taken."""


def table_of(architecture: str, config: Any) -> SiteTable | None:
    """The built-in table of a model, by the name of its class and its config; ``None`` where there is none."""
    return next((table for table in TABLES if architecture in table.architectures and table.fits(config)), None)
