"""Fixtures for whoever tests an interpd plugin; pytest finds them through the entry point ``pytest11``.

Importing this loads nothing but pytest: each fixture imports what it needs when a test asks for it.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from interpd.testing.tiny_models import TinyModel


@pytest.fixture(scope="session")
def tiny_model() -> "TinyModel":
    """A random GPT-2 of 3 layers and width 24 with its tokenizer, made in memory; the same weights every time."""
    from interpd.testing.tiny_models import tiny_gpt2

    return tiny_gpt2()
