"""Where in the user's own program something was written, so that errors can point at it."""

import contextlib
import copy
import linecache
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType

LONGEST_SOURCE = 120
"""Characters of a line of the user's program that messages quote."""

_NODE = re.compile(r"\bnodes\[(\d+)\]")
_OUTPUT = re.compile(r"\boutputs\[(['\"])(.*)\1\]")

_NOT_THE_USERS = [os.path.dirname(os.path.abspath(__file__)) + os.sep, contextlib.__file__, copy.__file__]
"""Beginnings of files whose lines are nobody's own: this package, and what calls it back."""


@dataclass(frozen=True, slots=True)
class Place:
    """One line of the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        name = os.path.basename(self.file)
        # a notebook cell is compiled under a made-up name that tells nobody anything
        is_cell = "ipykernel" in self.file or name.startswith("<ipython")
        return f"cell line {self.line}" if is_cell else f"{name}:{self.line}"

    @property
    def source(self) -> str:
        """The text of that line, ``""`` where it is not known (an interactive prompt)."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def shown(self) -> str:
        """The place with the beginning of its line, for messages; of no program ``""``."""
        if self is NOWHERE:
            return ""
        source = self.source
        cut = source if len(source) <= LONGEST_SOURCE else f"{source[: LONGEST_SOURCE - 4].rstrip()} ..."
        return f"{self}: {cut}" if cut else str(self)


NOWHERE = Place("", 0)
"""Of what the command line asks: no line of it is the user's."""
COMMAND_LINE = "interpd.cli"


@dataclass(frozen=True, slots=True)
class Places:
    """The user's lines behind one request."""

    nodes: tuple[Place, ...] = ()
    outputs: Mapping[str, Place] = field(default_factory=dict)
    """The line that saved each output."""
    trace: Place | None = None
    """The line that began the trace: the ``with``."""

    def named_in(self, text: str) -> Place | None:
        """The line of the node or output that ``text`` names, ``None`` where it names none."""
        found = _NODE.search(text)
        if found is not None:
            number = int(found.group(1))
            return _known(self.nodes[number]) if number < len(self.nodes) else None
        found = _OUTPUT.search(text)
        return _known(self.outputs.get(found.group(2))) if found is not None else None

    def of_path(self, path: str) -> Place | None:
        """The line that a path into the request means; for what concerns the whole request that of the trace."""
        return self.named_in(path) or _known(self.trace)


def _known(place: Place | None) -> Place | None:
    return None if place is NOWHERE else place


def pass_over(*files: str) -> None:
    """From now on no line in the folders of these files counts as the user's own."""
    folders = [os.path.dirname(os.path.abspath(file)) + os.sep for file in files]
    _NOT_THE_USERS.extend(folder for folder in folders if folder not in _NOT_THE_USERS)


def is_passed_over(file: str) -> bool:
    """Whether lines of a file are nobody's own: those of this package, and of what is passed over."""
    return file.startswith(tuple(_NOT_THE_USERS))


def user_place(frame: FrameType | None = None) -> Place:
    """The innermost line of a stack that lies outside this package, and outside what is passed over.

    ``frame``: the innermost frame of the stack; by default that of the caller. ``NOWHERE`` where that line is one of
    the command line.
    """
    frame = frame or sys._getframe(1)
    while frame.f_back is not None and is_passed_over(frame.f_code.co_filename):
        frame = frame.f_back
    if str(frame.f_globals.get("__name__", "")).startswith(COMMAND_LINE):
        return NOWHERE
    return Place(frame.f_code.co_filename, frame.f_lineno)
