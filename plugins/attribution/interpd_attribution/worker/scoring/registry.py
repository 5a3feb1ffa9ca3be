"""Step functions by name: ours, and those of other packages.

A package offers its own through the entry-point group ``interpd_attribution.step_functions``; each entry point names a
function marked with ``@step_function``. One that cannot be used is left out and told of; everything else stays.
"""

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import torch
from torch import Tensor

from interpd.errors import InterpdError, OpFailed
from interpd.plugin.discovery import Candidate
from interpd.sdk import CallerError, DeclarationError
from interpd_attribution.worker.others import brought, distribution, place

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
    origin: str = ""
    """The distribution of another package that it comes from."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """The scores. Raises ``OpFailed``, with the function's name and its own line, for what it raises."""
        try:
            return self.fn(*args, **options)
        except (InterpdError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # code of another package may raise anything; whoever asked is told whose it is
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OpFailed:
        code, module = getattr(self.fn, "__code__", None), str(getattr(self.fn, "__module__", ""))
        declared = f"{code.co_filename}, line {code.co_firstlineno}" if code else module
        where = place(module, error) or declared
        of = f" of {self.origin}" if self.origin else ""
        failed = OpFailed(f"step function {self.name!r}{of} raised {type(error).__name__}: {error} (at {where})")
        failed.trace = "".join(traceback.format_exception(error))
        return failed

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


def step_functions() -> Mapping[str, StepFunction]:
    """All step functions by name."""
    return offered()[0]


@cache
def offered() -> tuple[Mapping[str, StepFunction], tuple[str, ...]]:
    """All step functions by name, loaded once; and of each entry point that is not used why."""
    from interpd_attribution.worker.scoring import contrastive, plain

    known = by_name([*plain.STEP_FUNCTIONS, *contrastive.STEP_FUNCTIONS])

    def take(candidate: Candidate, found: object) -> None:
        if not isinstance(found, StepFunction):
            raise DeclarationError("it is no step function; mark the function with @step_function")
        known.update(by_name([*known.values(), replace(found, origin=distribution(candidate))]))

    return known, brought(GROUP, take).problems


def by_name(found: Iterable[StepFunction]) -> dict[str, StepFunction]:
    """Step functions by name. Raises ``DeclarationError`` for two of one name."""
    named: dict[str, StepFunction] = {}
    for one in found:
        if one.name in named:
            raise DeclarationError(f"two step functions are called {one.name!r}; rename one")
        named[one.name] = one
    return named
