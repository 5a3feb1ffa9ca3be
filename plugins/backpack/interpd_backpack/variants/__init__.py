"""One prompt, continued under several edits at once: who is asked (``generating``), and what comes back."""

from interpd_backpack.variants.continuations import Continuation, Variants
from interpd_backpack.variants.generating import VariantToken, generate

__all__ = ["Continuation", "VariantToken", "Variants", "generate"]
