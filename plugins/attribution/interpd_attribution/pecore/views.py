"""How context attributions are looked at: what they have in common with other results of this package."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from interpd_attribution.pecore.page import fragment
from interpd_attribution.pecore.reading import Marking
from interpd_attribution.pecore.screen import rendered
from interpd_attribution.views import is_plain
from interpd_attribution.views.style import PAGE

if TYPE_CHECKING:
    from interpd_attribution.pecore.result import ContextAttribution

DEFAULTS = {"attribution_std_threshold": 1.0, "attribution_topk": None}


class ContextViews:
    """What can be looked at. A notebook shows the result where it is the last line of a cell."""

    def show(
        self: "ContextAttribution", *, display: bool = True, return_html: bool = False, **marking: Any
    ) -> str | None:
        """Shows the output's tokens by their sensitivity, and for each sensitive one the contexts' tokens by what they
        did for it, cues underlined.

        Args:
            display: Whether it is shown at all.
            return_html: Whether its HTML is returned.
            marking: ``attribution_std_threshold`` and ``attribution_topk``, in place of those in ``info``.
        """
        marks = _marking(self.info or {}, marking)
        if display:
            _display(self, marks)
        return fragment(self, marks) if return_html else None

    def html(self: "ContextAttribution", *, page: bool = False, **marking: Any) -> str:
        """The picture as HTML: a fragment, or with ``page`` a whole document that needs no other file.

        ``marking`` is that of ``show``.
        """
        found = fragment(self, _marking(self.info or {}, marking))
        return PAGE.format(title="Context attribution", body=found) if page else found

    def _repr_html_(self: "ContextAttribution") -> str:
        """What notebooks show."""
        return self.html()


def _marking(info: Mapping[str, Any], given: Mapping[str, Any]) -> Marking:
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(DEFAULTS)}")
    return Marking(*({**DEFAULTS, **info, **given}[name] for name in DEFAULTS))


def _display(result: "ContextAttribution", marks: Marking) -> None:
    # a notebook has imported IPython itself, or there is none
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        tools = sys.modules["IPython.display"]
        tools.display(tools.HTML(fragment(result, marks)))
        return
    console = Console()
    console.print(rendered(result, marks, is_plain=is_plain(console)))
