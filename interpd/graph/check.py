"""The checker: every reason why a request cannot run, before any pass does, in the client and in the service alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from interpd.errors import (
    AdapterNotFound,
    ArtifactNotFound,
    FeatureUnsupported,
    InterpdError,
    InvalidGraph,
    LimitExceeded,
    OpVersionMismatch,
    PositionOutOfRange,
    Violation,
)
from interpd.graph.estimate import Estimate, estimate
from interpd.graph.ir import Prompt
from interpd.graph.late_writes import described, late_writes
from interpd.graph.order import BEFORE, OrderPlan
from interpd.graph.rules import RULES
from interpd.graph.run import Lengths, RunRequest
from interpd.graph.schema import Manifest
from interpd.graph.subject import Subject, Types
from interpd.graph.types import Dim, TensorType

MOST_VIOLATIONS = 200
"""A report longer than this serves nobody; the rest is counted in a note."""

MOST_LATE_WRITES = 5
"""Noted of one graph."""

_CLASSES: dict[str, type[InterpdError]] = {
    "POSITION_OUT_OF_RANGE": PositionOutOfRange,
    "LIMIT": LimitExceeded,
    "UNSUPPORTED": FeatureUnsupported,
    "ABSENT_SITE": FeatureUnsupported,
    "OP_VERSION": OpVersionMismatch,
    "UNKNOWN_ADAPTER": AdapterNotFound,
    "UNKNOWN_ARTIFACT": ArtifactNotFound,
}
"""Codes with an error class of their own, which is raised when the report holds nothing else."""


@dataclass(frozen=True, slots=True, repr=False)
class CheckReport:
    """What the checker found."""

    violations: tuple[Violation, ...]
    types: tuple[Types, ...] = ()
    """For each node the types of its outputs, at one step; ``None`` where they are unknown because of a violation."""
    outputs: tuple[tuple[str, TensorType], ...] = ()
    """The type of each named output as it comes back: values of several steps have a leading ``step`` dimension."""
    estimate: Estimate | None = None
    """``None`` for a request that breaks a rule."""
    plan: OrderPlan | None = None
    """``None`` for a request that breaks a rule."""
    notes: tuple[str, ...] = ()
    """What is allowed but may not be meant."""

    def __repr__(self) -> str:
        verdict = [f"can run: {self.estimate}"] if not self.violations else ["cannot run:", *map(str, self.violations)]
        return "\n  ".join([*verdict, *(f"note: {note}" for note in self.notes)])

    def raise_if_bad(self) -> None:
        """Raises ``InvalidGraph`` with all violations, or the class that their one common code stands for."""
        if not self.violations:
            return
        classes = {_CLASSES.get(violation.code) for violation in self.violations}
        only = classes.pop() if len(classes) == 1 else None
        if only is None:
            raise InvalidGraph(self.violations)
        raise only("\n  ".join(map(str, self.violations)), path=self.violations[0].path)


def check(
    request: RunRequest, manifest: Manifest, n_tokens: Sequence[Lengths | int | None] | None = None
) -> CheckReport:
    """All violations of ``request`` on the model of ``manifest``, the types of its values and its cost.

    ``n_tokens``: of each prompt its number of tokens, or its ``Tokens.lengths``, where they are known; ids tell theirs.
    """
    counts = [None] * len(request.prompts) if n_tokens is None else list(n_tokens)
    pairs = zip(request.prompts, counts, strict=True)
    subject = Subject(request, manifest, [_lengths(*pair, has_encoder=manifest.model.has_encoder) for pair in pairs])
    violations: list[Violation] = []
    for rule in RULES:
        violations.extend(rule.broken(subject))
        if rule.final and violations:
            break
    forecast = None if violations else estimate(subject)
    if forecast is not None:
        violations.extend(_too_costly(subject, forecast))
    if len(violations) > MOST_VIOLATIONS:
        subject.notes.append(f"{len(violations) - MOST_VIOLATIONS} more violations are not listed")
    return CheckReport(
        tuple(violations[:MOST_VIOLATIONS]),
        tuple(subject.types),
        () if violations else tuple(_outputs(subject)),
        forecast,
        None if violations else subject.plan,
        (*subject.notes, *(() if violations else _notes(subject))),
    )


def _lengths(prompt: Prompt, known: Lengths | int | None, *, has_encoder: bool) -> Lengths:
    if isinstance(known, Lengths):
        return known
    own = len(prompt.token_ids) if known is None and prompt.token_ids is not None else known
    if not has_encoder:
        return Lengths(own)
    # the decoder starts with a token of its own
    return Lengths(None if prompt.target_text is not None else 1 + len(prompt.target_ids or ()), own)


def _too_costly(subject: Subject, forecast: Estimate) -> Iterator[Violation]:
    limits = subject.manifest.limits
    if forecast.least_bytes_returned > limits.result_bytes:
        text = f"{forecast.least_bytes_returned} bytes would come back, at most {limits.result_bytes} are allowed"
        yield Violation("LIMIT", "graph.outputs", f"{text}: choose positions or reduce before saving")
    if forecast.least_live_bytes > limits.live_bytes:
        text = f"{forecast.least_live_bytes} bytes of values would be alive at once"
        yield Violation("LIMIT", "graph.nodes", f"{text}, at most {limits.live_bytes} are allowed")


def _outputs(subject: Subject) -> Iterator[tuple[str, TensorType]]:
    assert subject.plan is not None, "only requests that passed have outputs"
    generation = subject.request.generation
    for name, ref in subject.graph.outputs.items():
        types, node = subject.types[ref.node], subject.plan.nodes[ref.node]
        assert types is not None, "only requests that passed have outputs"
        kind = types[ref.output]
        if node.stacked and node.steps is not None and generation is not None:
            whole = generation.ignore_eos and not generation.stop_strings and not generation.stop_token_ids
            count = (node.steps.stop or 0) - node.steps.start
            kind = TensorType(kind.dtype, (Dim("step", count if whole else None), *kind.dims))
        yield name, kind


def _notes(subject: Subject) -> Iterator[str]:
    assert subject.plan is not None, "only requests that passed have a plan"
    used = {node.invoke for node in subject.graph.nodes}
    for index, invoke in enumerate(subject.plan.invokes):
        if invoke.last_order == BEFORE and index not in used:
            yield f"prompts[{index}] is used by no node"
    for pair in islice(late_writes(subject.graph, subject.manifest, subject.refs), MOST_LATE_WRITES):
        yield f"graph.nodes[{pair.write}]: {described(pair, subject.graph)}"
