"""Where in the user's own program something was written, so that errors can point at it."""

import linecache
import os
import sys
from dataclasses import dataclass

LONGEST_SOURCE = 120
"""Characters of a line of the user's program that messages quote."""

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


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
        """The place with the beginning of its line, for messages."""
        source = self.source
        cut = source if len(source) <= LONGEST_SOURCE else f"{source[: LONGEST_SOURCE - 4].rstrip()} ..."
        return f"{self}: {cut}" if cut else str(self)


def user_place() -> Place:
    """The innermost line of the calling stack that lies outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
