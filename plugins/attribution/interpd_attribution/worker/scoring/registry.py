"""Step functions by name: ours, and those of other packages.

A package offers its own through the entry-point group ``interpd_attribution.step_functions``; each entry point names a
function marked with ``@step_function``.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from torch import Tensor

from interpd.sdk import CallerError, DeclarationError

GROUP = "interpd_attribution.step_functions"


@dataclass(frozen=True)
class StepFunction:
    """A score of attributed tokens: callable with a ``Step`` and its options, gives ``[row step]``."""

    name: str
    fn: Callable[..., Tensor]
    contrastive: bool
    """Whether it needs foils."""
    differentiable: bool
    """Whether it can be a target of methods that take gradients."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """The scores."""
        return self.fn(*args, **options)

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Its keyword-only parameters."""
        parameters = inspect.signature(self.fn).parameters.values()
        return {one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY}


def step_function(
    name: str, *, contrastive: bool = False, differentiable: bool = True
) -> Callable[[Callable[..., Tensor]], StepFunction]:
    """A decorator that makes a function of a ``Step`` and keyword-only options a step function.

    Args:
        name: What targets and step scores call it.
        contrastive: It needs foils.
        differentiable: Gradients pass.
    """
    return lambda fn: StepFunction(name, fn, contrastive, differentiable)


def step_function_named(name: str) -> StepFunction:
    """The step function of a name. Raises ``CallerError``."""
    known = step_functions()
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"nearest is {near[0]!r}" if near else "there are"
        raise CallerError(f"no step function {name!r}; {hint}{'' if near else ' ' + ', '.join(known)}")
    return known[name]


@cache
def step_functions() -> Mapping[str, StepFunction]:
    """All step functions by name, loaded once."""
    from interpd_attribution.worker.scoring import contrastive, plain

    return by_name([*plain.STEP_FUNCTIONS, *contrastive.STEP_FUNCTIONS, *_of_others()])


def by_name(found: Iterable[StepFunction]) -> dict[str, StepFunction]:
    """Step functions by name. Raises ``DeclarationError`` for two of one name."""
    named: dict[str, StepFunction] = {}
    for one in found:
        if one.name in named:
            raise DeclarationError(f"two step functions are called {one.name!r}; rename one")
        named[one.name] = one
    return named


def _of_others() -> Iterable[StepFunction]:
    for point in entry_points(group=GROUP):
        found = point.load()
        if not isinstance(found, StepFunction):
            raise DeclarationError(
                f"entry point {point.name!r} of {GROUP} is no step function; mark {point.value} with it"
            )
        yield found
