"""A plugin's fault as its run's error: which operation or method, which line of its own, and the traceback."""

import linecache
import traceback
from pathlib import PurePath

from interpd.engine.guard import describe
from interpd.engine.planning import Step
from interpd.errors import CallerError, OpFailed

TRACE_CHARACTERS = 16_000
"""Of a traceback, its end."""


class Misuse(CallerError):
    """A method asked its session for what cannot be. A method may catch it; one that does not has failed."""


def op_failed(step: Step, error: BaseException) -> OpFailed:
    """The error of a run whose operation or method raised ``error``, with the traceback for the log."""
    place, source = _own_line(step, error)
    raised = f" raised {type(error).__name__}: {error}{_hint(error)}"
    message = f"{step.name}: {describe(step.schema)}{f': {error}' if isinstance(error, Misuse) else raised}"
    facts = {"node": step.name, "op": step.op, "plugin": step.schema.plugin}
    if place:
        message += f" (at {place}: {source})"
        facts |= {"place": place, "source": source}
    failed = OpFailed(message, **facts)
    failed.trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
    return failed


def _hint(error: BaseException) -> str:
    without_graph = isinstance(error, RuntimeError) and "does not require grad" in str(error)
    text = "; values of session.forward have gradients only with grad=True, by reads that come before them in the pass"
    return text if without_graph else ""


def _own_line(step: Step, error: BaseException) -> tuple[str, str]:
    """Where the plugin's own code was last: (``interpd_sae/__init__.py:24``, the line); empty when it is not known."""
    module = getattr(step.fn, "__module__", None) or ""
    package = module.partition(".")[0]
    found = ("", "")
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        if name == module or (package != "interpd" and name.partition(".")[0] == package):
            path = frame.f_code.co_filename
            found = (f"{_shown(path, package)}:{line}", linecache.getline(path, line, frame.f_globals).strip())
    return found


def _shown(path: str, package: str) -> str:
    parts = PurePath(path).parts
    start = parts.index(package) if package in parts else len(parts) - 1
    return "/".join(parts[start:])
