"""How large everything is: as claimed, or so small that a test only sees that it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shape of the model and of the requests."""

    n_layers: int = 12
    d_model: int = 768
    n_heads: int = 12
    d_vocab: int = 50257
    n_positions: int = 1024
    n_tokens: int = 16
    """Of each prompt."""
    n_users: int = 16
    """Who send at the same time."""
    n_new_tokens: int = 32
    stream_bytes: int = 256 << 20
    n_nodes: int = 10_000
    """Of the graph that the checker sees."""
    most_repeats: int = 1000

    def repeats(self, n: int) -> int:
        """``n`` repetitions, or fewer where only one is wanted."""
        return min(n, self.most_repeats)


FULL = Sizes()
"""The sizes of the claims: GPT-2-small."""

QUICK = Sizes(
    n_layers=3,
    d_model=32,
    n_heads=4,
    d_vocab=300,
    n_positions=64,
    n_tokens=8,
    n_users=3,
    n_new_tokens=4,
    stream_bytes=3 << 20,
    n_nodes=500,
    most_repeats=1,
)
"""Numbers of these sizes mean nothing."""
