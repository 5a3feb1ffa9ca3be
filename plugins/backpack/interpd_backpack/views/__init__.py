"""Pictures of results: in terminals, in notebooks, as HTML that needs nothing else."""

import json
import sys
from html import escape
from typing import Any

from rich.console import Console, RenderableType

from interpd_backpack.views.style import PAGE, STYLE

__all__ = ["Shown"]


class Shown:
    """What all results have in common: they can be looked at, and written as JSON.

    In a notebook a result is shown when it is the last line of a cell; ``show`` shows it at any place, and in a
    terminal.
    """

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; what is no number is ``None``."""
        raise TypeError(f"{type(self).__name__} has no JSON")

    def _heading(self) -> str:
        """One line that says what it is."""
        raise TypeError(f"{type(self).__name__} has no heading")

    def _body(self) -> str:
        """Its HTML, below the heading."""
        raise TypeError(f"{type(self).__name__} has no HTML")

    def _rendered(self, width: int) -> RenderableType:
        """What a terminal of ``width`` characters shows."""
        raise TypeError(f"{type(self).__name__} has no view for a terminal")

    def to_json(self) -> str:
        """All of it as a text of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def show(self) -> None:
        """Shows it: in a notebook as HTML, otherwise in the terminal."""
        # a notebook has imported IPython itself, or there is none
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None and hasattr(shell, "kernel"):
            tools = sys.modules["IPython.display"]
            tools.display(tools.HTML(self.to_html()))
            return
        console = Console()
        console.print(self._rendered(console.width))

    def to_html(self, *, page: bool = False) -> str:
        """The picture as HTML: a fragment, or with ``page`` a whole document that needs no other file."""
        heading = escape(self._heading())
        found = f'{STYLE}<div class="bp"><h3>{heading}</h3>{self._body()}</div>'
        return PAGE.format(title=heading, body=found) if page else found

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return self.to_html()

    def __repr__(self) -> str:
        return f"<{self._heading()}>"
