"""What other packages bring through entry points. Each is taken by itself: a broken one takes nothing else away."""

import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from interpd.plugin.discovery import Candidate, installed
from interpd.sdk import DeclarationError
from interpd.telemetry import Log

T = TypeVar("T")

log = Log("attribution")


@dataclass(frozen=True)
class Brought(Generic[T]):
    """What was found at the entry points of a group."""

    taken: tuple[T, ...]
    problems: tuple[str, ...]
    """Of each entry point that was not taken: its distribution, its name, and why."""


def brought(group: str, take: Callable[[Candidate, object], T]) -> Brought[T]:
    """Everything that entry points of a group name and ``take`` accepts. Raises nothing for what other packages do.

    Args:
        group: Of entry points.
        take: Makes something of what an entry point names; raises ``DeclarationError`` for what it refuses.
    """
    taken, problems = [], []
    for one in installed(group):
        try:
            taken.append(take(one, one.load()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # code of another package may do anything, sys.exit() included
            problem = f"entry point {one.name!r} of {group} ({distribution(one)}), {one.target}: {_cause(one, error)}"
            problems.append(" ".join(problem.split()))
            log.warning("an entry point is not used", problem=problems[-1])
    return Brought(tuple(taken), tuple(problems))


def distribution(one: Candidate) -> str:
    """Where it comes from: ``my-package 1.0``."""
    return f"{one.distribution} {one.version}"


def place(module: str, error: BaseException) -> str:
    """Where a package's own code was last, ``file, line 8: source``; empty when the error did not pass through it."""
    root, found = module.partition(".")[0], ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == root:
            path = frame.f_code.co_filename
            found = f"{path}, line {line}: {linecache.getline(path, line, frame.f_globals).strip()}"
    return found


def _cause(one: Candidate, error: BaseException) -> str:
    said = str(error) if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}"
    where = place(one.target.partition(":")[0], error)
    return f"{said}{f' (at {where})' if where else ''}; repair or uninstall {one.distribution}"
