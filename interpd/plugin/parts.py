"""What plugins bring besides their workers' part: a part for the client, commands, reproductions, bundled models.

All are entry points that are loaded at the first use, and none needs torch or a daemon to be loaded. A broken one is
told of with the distribution that it comes from, and hurts nothing else.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from interpd.errors import Broken, InterpdError
from interpd.plugin.declaration import cause
from interpd.plugin.discovery import Candidate, installed

T = TypeVar("T")

CLIENT = "interpd.client"
"""Loaded by programs that use the client: a callable that takes a ``Model`` and gives ``model.<name>``."""

COMMANDS = "interpd.commands"
"""Loaded by ``interpd``: a callable that takes the parser of the command ``<name>`` and adds to it."""

REPRODUCTIONS = "interpd.reproductions"
"""Loaded by ``interpd reproduce``: a callable that takes a ``Reproduction`` and computes results of papers again."""

ZOO = "interpd.zoo"
"""Loaded by whoever loads the model ``<name>``: a package whose folder ``from_pretrained`` can load."""


def names(group: str) -> tuple[str, ...]:
    """The names of all parts of a group. Imports none of them."""
    return tuple(dict.fromkeys(part.name for part in installed(group)))


def part(group: str, name: str) -> Candidate:
    """The part called ``name``, which must be there. Raises ``Broken`` when several distributions offer it."""
    found = [one for one in installed(group) if one.name == name]
    if len(found) > 1:
        offers = " and ".join(f"{one.distribution} {one.version}" for one in found)
        raise Broken(f"{name!r} of {group} is offered by {offers}; uninstall one of them")
    return found[0]


def loaded(one: Candidate) -> Callable[..., Any]:
    """What the entry point names. Raises ``Broken`` with the distribution and the cause."""
    target = guarded(one, one.load)
    if not callable(target):
        raise Broken(f"{one}: {one.target} is {type(target).__name__}, expected something to call")
    return target


def guarded(one: Candidate, act: Callable[[], T], *, passing: tuple[type[BaseException], ...] = ()) -> T:
    """What ``act``, code of a plugin, gives. What it raises comes out as ``Broken``.

    Our own errors, and what ``passing`` names, come out as they are.
    """
    try:
        return act()
    except (InterpdError, *passing):
        raise
    except (Exception, SystemExit) as error:  # code of a plugin may raise anything; whoever called it names the plugin
        raise Broken(f"{one}, {one.target}: {cause(error)}; repair or uninstall {one.distribution}") from error
