"""Pictures of results: in terminals, in notebooks, as HTML that needs nothing else."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from interpd_attribution.views import terminal
from interpd_attribution.views.heatmap import heatmap_html
from interpd_attribution.views.highlights import highlights_html
from interpd_attribution.views.labels import title
from interpd_attribution.views.look import Look, parted
from interpd_attribution.views.maps import is_mapped, maps_html
from interpd_attribution.views.panes import panes_html
from interpd_attribution.views.style import PAGE, STYLE

if TYPE_CHECKING:
    from interpd_attribution.aggregation import Chosen
    from interpd_attribution.attribution import Attribution

__all__ = ["Look", "Views", "is_plain"]

Draw = Callable[["Attribution", Look, str], str]

Render = Callable[["Attribution", Look, Console], RenderableType]


class Views:
    """What one result and several have in common: they can be looked at.

    In a notebook a result is shown as a table when it is the last line of a cell; ``show`` shows it at any place, and
    in a terminal.
    """

    def _shown(self, aggregator: "Chosen", do_aggregation: bool, options: Mapping[str, Any]) -> "Sequence[Attribution]":
        """The results to draw."""
        raise TypeError(f"{type(self).__name__} has nothing to draw")

    def show(self, *, display: bool = True, return_html: bool = False, **options: Any) -> str | None:
        """Shows a table with a colour for each score: blue below zero, red above.

        Args:
            display: Whether it is shown at all.
            return_html: Whether its HTML is returned.
            aggregator: As for ``aggregate``; what it leaves of the axes beside the tokens is drawn as by
                ``show_granular``.
            do_aggregation: Whether anything is aggregated; ``False`` shows the result as it is.
            options: Those of ``Look`` (``min_val``, ``max_val``, ...), and those of the aggregators.

        Returns:
            The HTML, a fragment for any page; or ``None``.
        """
        return self._seen(_draw, _render, display=display, return_html=return_html, **options)

    def show_granular(self, *, display: bool = True, return_html: bool = False, **options: Any) -> str | None:
        """Shows the result as it is: a small picture for each layer, head or dimension.

        Where layers are all that it has beside its tokens, there is one map for each generated token instead, inputs
        down and layers across, of all layers; ``show_dim="layer"`` gives one for each layer.

        Args:
            display: Whether it is shown at all.
            return_html: Whether its HTML is returned.
            options: Those of ``Look``: ``show_dim``, ``slice_dims``, ``max_show_size``, ``min_val``, ``max_val``.
        """
        return _drawn(
            self._shown(None, False, {}),
            Look(**options),
            _granular_html,
            _panes,
            display=display,
            return_html=return_html,
        )

    def show_tokens(self, *, display: bool = True, return_html: bool = False, **options: Any) -> str | None:
        """Shows for each generated token the text before it, coloured by what each token of it did.

        Args:
            display: Whether it is shown at all.
            return_html: Whether its HTML is returned.
            aggregator: As for ``aggregate``.
            do_aggregation: Whether anything is aggregated.
            options: Those of ``Look`` (``step_score_highlight``, ``wrap_after``, ``replace_char``, ...), and those of
                the aggregators.
        """
        return self._seen(highlights_html, _lines, display=display, return_html=return_html, **options)

    def _seen(
        self,
        draw: Draw,
        render: Render,
        *,
        display: bool,
        return_html: bool,
        aggregator: "Chosen" = None,
        do_aggregation: bool = True,
        **options: Any,
    ) -> str | None:
        look, others = parted(options)
        return _drawn(
            self._shown(aggregator, do_aggregation, others),
            look,
            draw,
            render,
            display=display,
            return_html=return_html,
        )

    def html(self, *, page: bool = False, **options: Any) -> str:
        """The table of ``show`` as HTML: a fragment, or with ``page`` a whole document that needs no other file."""
        found = self.show(display=False, return_html=True, **options)
        return PAGE.format(title="Attribution", body=found) if page else str(found)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return self.html()


def is_plain(console: Console) -> bool:
    """Whether a terminal, a pipe or a file shows no colours."""
    return console.color_system is None or console.no_color


def _draw(attribution: "Attribution", look: Look, heading: str) -> str:
    return (_granular_html if attribution.dims else heatmap_html)(attribution, look, heading)


def _granular_html(attribution: "Attribution", look: Look, heading: str) -> str:
    return (maps_html if is_mapped(attribution, look) else panes_html)(attribution, look, heading)


def _render(attribution: "Attribution", look: Look, console: Console) -> RenderableType:
    return (_panes if attribution.dims else _table)(attribution, look, console)


def _table(attribution: "Attribution", look: Look, console: Console) -> RenderableType:
    return terminal.heatmap(attribution, look, console.width)


def _panes(attribution: "Attribution", look: Look, console: Console) -> RenderableType:
    render = terminal.layer_maps if is_mapped(attribution, look) else terminal.panes
    return render(attribution, look, console.width, is_plain=is_plain(console))


def _lines(attribution: "Attribution", look: Look, console: Console) -> RenderableType:
    # the terminal breaks them
    return terminal.highlights(attribution, look)


def _fragment(shown: "Sequence[Attribution]", look: Look, draw: Draw) -> str:
    return STYLE + "".join(draw(item, look, _heading(item, number, len(shown))) for number, item in enumerate(shown, 1))


def _heading(attribution: "Attribution", number: int, n_all: int) -> str:
    row = attribution.info.get("dataset_row")
    places = [f"{number} of {n_all}"] if n_all > 1 else []
    where = ", ".join(places if row is None else [*places, f"row {row}"])
    return f"{where}: {title(attribution)}" if where else title(attribution)


def _drawn(
    shown: "Sequence[Attribution]", look: Look, draw: Draw, render: Render, *, display: bool, return_html: bool
) -> str | None:
    if display:
        _display(shown, look, draw, render)
    return _fragment(shown, look, draw) if return_html else None


def _display(shown: "Sequence[Attribution]", look: Look, draw: Draw, render: Render) -> None:
    # a notebook has imported IPython itself, or there is none
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        tools = sys.modules["IPython.display"]
        tools.display(tools.HTML(_fragment(shown, look, draw)))
        return
    console = Console()
    for item in shown:
        console.print(render(item, look, console))
