"""What is wrong with a declaration, said to the one who wrote it, and what its docstring says.

A plugin's mistakes are found when its module is imported or registered, never in the middle of somebody's run.
"""

import inspect
import linecache
import re
import traceback
from collections.abc import Callable, Sequence

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
"""``family.verb``: what operations and methods are called."""

_NOT_THE_PLUGIN = ("jaxtyping", "interpd", "pluggy", "importlib")

_ARGUMENT = re.compile(r"\s+(\w+):\s+(.*)")


class DeclarationError(TypeError):
    """A declaration that interpd cannot offer: a mistake in the plugin's source, with what to write instead."""


def refuse(kind: str, name: str, fn: Callable[..., object], problems: Sequence[str]) -> DeclarationError:
    """The error that lists every problem of one declaration, with its signature and place in the source."""
    head = f"{kind} {name!r}: "
    listed = problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems", *problems])
    return DeclarationError(f"{head}{listed}\n  in {signature_text(fn)} ({place(fn)})")


def signature_text(fn: Callable[..., object]) -> str:
    """The declaration on one line: ``def encode(resid: Float[Tensor, 'batch pos d_model'], *, sae: Sae) -> ...``."""
    if inspect.isclass(fn):
        return f"class {fn.__qualname__}"
    try:
        signature = str(inspect.signature(fn))
    except (TypeError, ValueError):
        signature = "(...)"
    return f"def {getattr(fn, '__name__', fn)}{signature}".replace("jaxtyping.", "")


def place(fn: Callable[..., object]) -> str:
    """``module:line`` of a declaration, or its module where the source is not to be had."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    module = getattr(fn, "__module__", "?")
    return f"{module}, line {code.co_firstlineno}" if code else f"{module}"


def summary(fn: Callable[..., object]) -> str:
    """The first line of the docstring; empty when there is none."""
    doc = inspect.getdoc(fn) or ""
    return doc.split("\n", 1)[0].strip()


def argument_docs(fn: Callable[..., object]) -> dict[str, str]:
    """What the ``Args:`` section of the docstring says of each parameter."""
    docs: dict[str, str] = {}
    inside, current = False, ""
    for line in (inspect.getdoc(fn) or "").splitlines():
        if not line.startswith(" ") and line.strip():
            inside = line.strip() == "Args:"
        elif inside and (match := _ARGUMENT.fullmatch(line)):
            current = match[1]
            docs[current] = match[2]
        elif inside and current and line.strip():
            docs[current] += " " + line.strip()
    return docs


def cause(error: BaseException) -> str:
    """What went wrong in a plugin's code, and in which line of which file."""
    if isinstance(error, DeclarationError):
        return str(error)
    frames = list(traceback.walk_tb(error.__traceback__))
    # an annotation is refused deep in jaxtyping, but the line to change is the plugin's
    own = [one for one in frames if str(one[0].f_globals.get("__name__")).partition(".")[0] not in _NOT_THE_PLUGIN]
    where = ""
    for frame, line in (own or frames)[-1:]:
        source = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
        where = f" ({frame.f_code.co_filename}, line {line}{f': {source}' if source else ''})"
    return f"{type(error).__name__}: {error}{where}"
