"""Which requests share the next pass, and why not.

A shared pass gives each request the numbers that it would have got alone, so only what makes the passes themselves
different keeps requests apart; the rest is a matter of padding, which costs time and nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from interpd.engine.planning import Program

MAX_PADDING = 0.25
"""Share of a pass that may be padding, unless one request brings it all."""


@dataclass(frozen=True, slots=True)
class PassClass:
    """What has to be equal for two requests to share a pass."""

    generates: bool
    records_grad: bool
    eager_attention: bool
    alone: str
    """Why the request takes no company; empty: it does."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that waits for a pass, with the lengths of its rows."""

    run_id: str
    kind: PassClass
    lengths: tuple[int, ...]


def pass_class(program: Program, *, stateful: bool = False) -> PassClass:
    """The class of a request's passes.

    Args:
        program: The request.
        stateful: Whether the model carries a state through padding (recurrent layers), so that a generation cannot be
            padded on the left.
    """
    request = program.request
    generates = request.generation is not None
    alone = one_row_only(program, stateful=stateful)
    if not alone and request.reproducible:
        alone = "reproducible runs take a pass of their own"
    eager = any(step.binding.site.eager_attention for step in program.steps if step.binding is not None)
    return PassClass(generates, program.order.needs_grad, eager, alone)


def one_row_only(program: Program, *, stateful: bool = False) -> str:
    """Why each pass of a request holds one prompt, so that not even its own prompts share one; empty: they may.

    Args:
        program: The request.
        stateful: As in ``pass_class``.
    """
    sites = [step.binding.site for step in program.steps if step.binding is not None]
    shy = next((site.name for site in sites if not site.shares_pass), None)
    if shy is not None:
        return f"dimension 0 of {shy!r} is not rows"
    if stateful and program.request.generation is not None:
        return "the model carries a state through padding"
    return ""


def reason_apart(one: PassClass, other: PassClass) -> str:
    """Why two requests do not share a pass; empty when they do."""
    if one.alone or other.alone:
        return one.alone or other.alone
    if one.generates != other.generates:
        return "one generates, the other does not"
    if one.records_grad != other.records_grad:
        return "one records gradients, the other does not"
    if one.eager_attention != other.eager_attention:
        return "one needs eager attention, the other runs the model's own"
    return ""


def bucket(first: Candidate, others: Iterable[Candidate], *, max_tokens: int) -> list[Candidate]:
    """Those that share the pass of ``first``: as many of ``others``, in their order, as fit beside it.

    A candidate fits when its class allows it, the pass stays within ``max_tokens`` positions (padding included) and
    no more than ``MAX_PADDING`` of it is padding, or no more than was there before.
    """
    chosen = [first]
    for candidate in others:
        if reason_apart(first.kind, candidate.kind):
            continue
        together = _lengths([*chosen, candidate])
        limit = max(MAX_PADDING, padding(_lengths(chosen)))
        if len(together) * max(together) <= max_tokens and padding(together) <= limit:
            chosen.append(candidate)
    return chosen


def padding(lengths: Sequence[int]) -> float:
    """The share of a pass of these rows that is padding."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


def _lengths(candidates: Iterable[Candidate]) -> list[int]:
    return [length for candidate in candidates for length in candidate.lengths]
