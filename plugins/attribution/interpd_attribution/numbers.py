"""What was done to the numbers of a result, in words, in the result itself."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

DONE_KEY = "aggregated"
"""Key of a result's ``info``: what was done to the scores that the method gave, in order."""

COLUMN, LARGEST = "shares of each column", "divided by the largest"


def with_done(attribution: "Attribution", what: str) -> dict[str, Any]:
    """The ``info`` of what comes out when ``what`` is done to the scores of ``attribution``."""
    return {**attribution.info, DONE_KEY: [*done(attribution), what]}


def done(attribution: "Attribution") -> list[str]:
    """What was done so far."""
    found = attribution.info.get(DONE_KEY)
    return [str(one) for one in found] if isinstance(found, list | tuple) else []


def over(name: str, dim: str) -> str:
    """A function over an axis, in words: ``mean over layers``."""
    return f"{name} over {dim}s" if dim in ("layer", "head") else f"{name} over {dim}"


def numbers(attribution: "Attribution") -> str:
    """What the scores are, in words: ``raw scores`` are as the method gave them."""
    return ", ".join(done(attribution)) or "raw scores"
