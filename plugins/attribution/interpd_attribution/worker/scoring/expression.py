"""Step functions as the caller writes them: ``probability``, ``kl_divergence(top_k=10)``."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.scoring.registry import StepFunction, step_function_named
from interpd_attribution.worker.scoring.step import Step


@dataclass(frozen=True)
class Score:
    """A step function with its options."""

    text: str
    """As it was written."""
    function: StepFunction
    options: Mapping[str, Any]

    def __call__(self, step: Step) -> Tensor:
        """The score of each step, ``[row step]``."""
        scores = self.function(step, **self.options)
        expected = step.logits.shape[:2]
        if not isinstance(scores, Tensor) or scores.shape != expected:
            gave = list(scores.shape) if isinstance(scores, Tensor) else repr(type(scores).__name__)
            raise CallerError(f"step function {self.text!r} gave {gave}, expected {list(expected)}: row, step")
        return scores


def score_of(text: str) -> Score:
    """The step function that ``text`` names, with the options in its parentheses.

    Raises ``CallerError`` for text of another form, and for names and options that there are not.
    """
    name, options = _parsed(text)
    function = step_function_named(name)
    known = function.options
    unknown = [option for option in options if option not in known]
    missing = [option for option, one in known.items() if one.default is one.empty and option not in options]
    if unknown or missing:
        said = f"has no option {unknown[0]!r}" if unknown else f"needs {missing[0]!r}"
        raise CallerError(f"step function {name!r} {said}; it takes {', '.join(known) or 'none'}: {name}(option=value)")
    for option, value in options.items():
        _check(name, option, value, known[option].annotation)
    return Score(text, function, options)


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    wrong = CallerError(f"{text!r} is no step function; write its name, or with options name(option=value)")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise wrong
        return tree.func.id, {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise wrong from error


def _check(name: str, option: str, value: Any, annotation: Any) -> None:
    kinds = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}.get(annotation)
    if kinds is None:
        return
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise CallerError(f"step function {name!r}: {option} is {value!r}, expected {annotation.__name__}")
