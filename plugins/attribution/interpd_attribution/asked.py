"""What ``model.attribute`` is asked: options that all methods share, and constants of the method."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interpd.errors import CallerError
from interpd_client import Trace
from interpd_client.options import RunOptions, SamplingOptions
from interpd_client.value import Value

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

OF_WORKERS = {
    "start": "attr_pos_start",
    "stop": "attr_pos_end",
    "inputs": "attribute_target",
    "contrast_lengths": "contrast",
    "contrast_shared": "contrast",
}
"""Constants of the workers' methods that the client sets, and the option that says them here."""

_KINDS: Mapping[str, tuple[tuple[type, ...], tuple[str, ...]]] = {
    "the id of a method": ((str,), ("method",)),
    "True or False": ((bool, np.bool_), ("span", "attribute_target", "granular")),
    "an integer": ((int, np.integer, type(None)), ("attr_pos_start", "attr_pos_end")),
    "a name": ((str, type(None)), ("reduce",)),
    "a mapping of options": ((Mapping, type(None)), ("generation",)),
}
"""What is expected, the kinds that it may have, and of which options."""


GENERATION = ("max_new_tokens", *SamplingOptions.__annotations__)
"""Options of a generation."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options of one call, checked where they need no model.

    Args:
        method: Id of a method, without ``attribution.``.
        target: A step function with its options as text, or a function of the trace that gives a value; for a
            node also a value.
        step_scores: Step functions to report for each attributed token.
        contrast: Foils.
        features: What one input is.
        baseline: What inputs are compared with; ``None``: the method's own default.
        span: One column for all attributed tokens.
        spans: ``(start, stop)`` or several, positions of the target: one column for each, other tokens have their own.
        attr_pos_start: The first attributed position of the target; ``None``: the first behind the prompt.
        attr_pos_end: The position behind the last one; ``None``: the end.
        attribute_target: Attribute to the target's prefix too (encoder-decoder models).
        reduce: How vectors become numbers; ``None``: the method's own default.
        granular: Keep the vectors.
        under: Writes that are in force.
        generation: Options of the generation.
        on_partial: Called with each partial result and the number of its input.
        run: Options of the requests.
        constants: Of the method.
    """

    method: str = "saliency"
    target: str | Value | Callable[[Any], Any] = "probability"
    step_scores: tuple[str, ...] = ()
    contrast: Any = None
    features: Any = "token"
    baseline: Any = None
    span: bool = False
    spans: Any = None
    attr_pos_start: int | None = None
    attr_pos_end: int | None = None
    attribute_target: bool = False
    reduce: str | None = None
    granular: bool = False
    under: Any = None
    generation: Mapping[str, Any] | None = None
    on_partial: "Callable[[Attribution, int], None] | None" = None
    run: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_kinds()
        scores = (self.step_scores,) if isinstance(self.step_scores, str) else tuple(self.step_scores)
        twice = next((score for score in scores if scores.count(score) > 1), None)
        if twice is not None:
            raise CallerError(f"step_scores has {twice!r} twice")
        object.__setattr__(self, "step_scores", scores)
        if self.span and self.spans:
            raise CallerError("span=True is one column for all attributed tokens: leave spans out")
        if not isinstance(self.target, str | Value) and not callable(self.target):
            raise CallerError(
                f"target is {self.target!r}, expected the name of a step function or a function of the trace"
            )
        for name, option in OF_WORKERS.items():
            if name in self.constants:
                raise CallerError(f"{name!r} is set from what the call says: give {option!r}")

    def _check_kinds(self) -> None:
        """Raises ``CallerError`` for what is of another kind than an option takes; it would fail later, elsewhere."""
        for expected, (kinds, names) in _KINDS.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                    raise CallerError(f"{name} is {value!r}, expected {expected}")
        unknown = [name for name in self.generation or {} if name not in {*GENERATION, *RunOptions.__annotations__}]
        if unknown:
            raise CallerError(f"generation has no option {unknown[0]!r}; it takes {', '.join(GENERATION)}")
        for name in ("under", "on_partial"):
            value = getattr(self, name)
            if value is not None and not callable(value) and not (name == "under" and isinstance(value, Trace)):
                expected = "a trace or a function that records writes" if name == "under" else "a function"
                raise CallerError(f"{name} is {value!r}, expected {expected}")
        texts = self.step_scores
        if not isinstance(texts, str | Sequence) or not all(isinstance(text, str) for text in texts):
            raise CallerError(f"step_scores is {texts!r}, expected the names of step functions")

    @property
    def is_value(self) -> bool:
        """Whether a value of the graph is attributed instead of predictions."""
        return not isinstance(self.target, str)


COMMON = tuple(one.name for one in dataclasses.fields(Asked) if one.name not in ("run", "constants"))
"""Names of the options that all methods share."""


def asked_of(options: Mapping[str, Any]) -> Asked:
    """Options as they were written: those that methods share, those of requests, and the rest, the method's own."""
    common = {name: value for name, value in options.items() if name in COMMON}
    run = {name: value for name, value in options.items() if name in RunOptions.__annotations__}
    rest = {name: value for name, value in options.items() if name not in common and name not in run}
    return Asked(**common, run=run, constants=rest)


def items_of(values: Sequence[Any], n: int, what: str) -> list[Any]:
    """One of ``values`` for each of ``n`` inputs. Raises ``CallerError`` for another count."""
    if len(values) != n:
        raise CallerError(f"{what}: {len(values)} of them for {n} inputs; give one for each")
    return list(values)
