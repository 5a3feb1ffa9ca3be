"""Which requests share the next pass, and why not.

A shared pass gives each request the numbers that it would have got alone, so only what makes the passes themselves
different keeps requests apart; the rest is a matter of padding, which costs time and nothing else.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
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
    adapter: str = ""
    """Which adapter is in force: the digest of its files; empty: none."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that waits for a pass, with the lengths of its rows."""

    run_id: str
    kind: PassClass
    lengths: tuple[int, ...]
    keys: tuple[Hashable, ...] = ()
    """For each prompt, what it has in common with those that share its row all through the pass; empty: none does."""

    @property
    def rows(self) -> dict[Hashable, int]:
        """The lengths of its rows, by key."""
        keys = self.keys or [(self.run_id, number) for number in range(len(self.lengths))]
        return dict(zip(keys, self.lengths, strict=True))


def pass_class(program: Program, *, stateful: bool = False, long_from: int = 0, adapter: str = "") -> PassClass:
    """The class of a request's passes.

    Args:
        program: The request.
        adapter: The digest of the adapter that is in force; empty: none.
        stateful: Whether padding changes what a row is (recurrent layers, own positions), so that generations are not
            padded on the left.
        long_from: As in ``model_config.long_from``.
    """
    request = program.request
    generates = request.generation is not None
    alone = one_row_only(program, stateful=stateful, long_from=long_from)
    if not alone and request.reproducible:
        alone = "reproducible runs take a pass of their own"
    eager = any(step.binding.site.eager_attention for step in program.steps if step.binding is not None)
    return PassClass(generates, program.order.needs_grad, eager, alone, adapter)


def one_row_only(program: Program, *, stateful: bool = False, long_from: int = 0) -> str:
    """Why each pass of a request holds one prompt, so that not even its own prompts share one; empty: they may.

    Args:
        program: The request.
        stateful: As in ``pass_class``.
        long_from: As in ``pass_class``.
    """
    sites = [step.binding.site for step in program.steps if step.binding is not None]
    shy = next((site.name for site in sites if not site.shares_pass), None)
    if shy is not None:
        return f"dimension 0 of {shy!r} is not rows"
    if stateful and program.request.generation is not None:
        return "a row of this model is not the same with padding on its left"
    if long_from and any(len(prompt.ids) > long_from for prompt in program.tokens):
        return f"a row of more than {long_from} positions makes the model turn all positions of a pass otherwise"
    return ""


def beyond_the_turn(program: Program, long_from: int) -> str:
    """Why a generation cannot be continued as far as it wants; empty: it can."""
    generation = program.request.generation
    if not long_from or generation is None:
        return ""
    for index, prompt in enumerate(program.tokens):
        room = long_from - len(prompt.ids) + 1
        if 0 < room < generation.max_new_tokens:
            return (
                f"prompt {index} and its continuation pass {long_from} positions, where the model turns all positions "
                f"otherwise, also those that are cached: generate at most {room} tokens"
            )
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
    if one.adapter != other.adapter:
        return "they run with different adapters"
    return ""


def bucket(first: Candidate, others: Iterable[Candidate], *, max_tokens: int) -> list[Candidate]:
    """Those that share the pass of ``first``: as many of ``others``, in their order, as fit beside it.

    A candidate fits when its class allows it, the pass stays within ``max_tokens`` positions (padding included) and
    no more than ``MAX_PADDING`` of it is padding, or no more than was there before, or the pass is no larger than the
    two that it takes the place of. A row that several share counts once; one that joins in the middle of the pass
    counts as if it were there from the start.
    """
    chosen, rows = [first], first.rows
    for candidate in others:
        if reason_apart(first.kind, candidate.kind):
            continue
        together = rows | candidate.rows
        if _size(together) > max_tokens:
            continue
        limit = max(MAX_PADDING, padding(tuple(rows.values())))
        if padding(tuple(together.values())) <= limit or _size(together) <= _size(rows) + _size(candidate.rows):
            chosen.append(candidate)
            rows = together
    return chosen


def _size(rows: Mapping[Hashable, int]) -> int:
    """Positions of a pass of these rows, padding included."""
    return len(rows) * max(rows.values())


def padding(lengths: Sequence[int]) -> float:
    """The share of a pass of these rows that is padding."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths))
