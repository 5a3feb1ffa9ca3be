"""A result as text: the inputs of each generated token, coloured by what they did to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.views.colours import Scale, scale
from interpd_attribution.views.heatmap import exact, legend_html, paint
from interpd_attribution.views.labels import input_labels, labels, title
from interpd_attribution.views.look import Look

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

MOST_MARKS = 100_000
"""More would take a browser minutes."""


@dataclass(frozen=True)
class Explained:
    """One generated token and its inputs."""

    label: str
    step_score: float | None
    sides: tuple[tuple[str, tuple[str, ...], np.ndarray], ...]
    """Name, labels and scores of the source, and of what stood before the token in the target."""


def explained(attribution: "Attribution", look: Look) -> Iterator[Explained]:
    """Each generated token of a result without further axes."""
    if attribution.dims:
        raise CallerError(f"the axes {', '.join(attribution.dims)} are left; aggregate them first")
    wanted = look.step_score_highlight
    if wanted is not None and wanted not in attribution.step_scores:
        there = ", ".join(attribution.step_scores) or "none"
        raise CallerError(f"no step score {wanted!r} to highlight; there are: {there}; ask for it with step_scores=")
    source = tuple(input_labels(attribution, "source", look.replace_char))
    target = tuple(input_labels(attribution, "target", look.replace_char))
    for number, label in enumerate(labels(attribution.generated, look.replace_char)):
        sides = []
        if attribution.source_attributions is not None:
            sides.append(("source", source, attribution.source_attributions[:, number]))
        if attribution.target_attributions is not None:
            before = attribution.attr_pos_start + number
            sides.append(("target", target[:before], attribution.target_attributions[:before, number]))
        value = None if wanted is None else float(attribution.step_scores[wanted][number])
        yield Explained(label, value, tuple(sides))


def scales(attribution: "Attribution", look: Look) -> tuple[Scale, Scale | None]:
    """Those of the attributions and of the highlighted step score."""
    arrays = (attribution.source_attributions, attribution.target_attributions)
    wanted = look.step_score_highlight
    steps = scale((attribution.step_scores[wanted],)) if wanted in attribution.step_scores else None
    return scale(arrays, look.min_val, look.max_val), steps


def highlights_html(attribution: "Attribution", look: Look, heading: str = "") -> str:
    """Generated tokens that unfold; in the first line all of them, as text."""
    tokens = list(explained(attribution, look))
    n_marks = sum(len(texts) for item in tokens for _, texts, _ in item.sides)
    if n_marks > MOST_MARKS:
        raise CallerError(
            f"{n_marks} tokens to colour are more than {MOST_MARKS}; keep fewer inputs with [a:b], or aggregate words"
        )
    used, of_steps = scales(attribution, look)
    parts = [f"<h3>{escape(heading or title(attribution))}</h3>", legend_html(used)]
    if of_steps is not None:
        bar = "browns" if of_steps.is_signed else "greens"
        name, ends = escape(str(look.step_score_highlight)), (f"{of_steps.low:.4g}", f"{of_steps.high:.4g}")
        middle = f'<span class="bar {bar}"></span>'
        parts.append(f'<div class="legend">{name}: <span>{ends[0]}</span>{middle}<span>{ends[1]}</span></div>')
    whole = [_mark(item.label, item.step_score, of_steps, "go") for item in tokens]
    parts.append(f'<p class="toks">{_wrapped(whole, [item.label for item in tokens], look)}</p>')
    for number, item in enumerate(tokens):
        parts.append(_details(item, look, used, of_steps, is_open=number == 0))
    return f'<div class="ia">{"".join(parts)}</div>'


def _details(item: Explained, look: Look, used: Scale, of_steps: Scale | None, *, is_open: bool) -> str:
    body = []
    for side, texts, scores in item.sides:
        marks = [_mark(text, value, used, "pn") for text, value in zip(texts, scores.tolist(), strict=True)]
        body.append(f'<div class="side">{side}</div><p class="toks">{_wrapped(marks, texts, look)}</p>')
    said = f" <small>{escape(str(look.step_score_highlight))} {item.step_score:.4g}</small>" if of_steps else ""
    summary = f"<summary>{_mark(item.label, item.step_score, of_steps, 'go')}{said}</summary>"
    return f"<details{' open' if is_open else ''}>{summary}{''.join(body)}</details>"


def _mark(text: str, score: float | None, used: Scale | None, kinds: str) -> str:
    if score is None or used is None or np.isnan(score):
        return f"<mark><bdi>{escape(text)}</bdi></mark>"
    painted = paint(used.strength(score), kinds)
    return f'<mark{painted} title="{escape(text)}: {exact(score)}"><bdi>{escape(text)}</bdi></mark>'


def _wrapped(marks: Sequence[str], texts: Sequence[str], look: Look) -> str:
    """Marks with an invisible place to break after each, and a line's end where ``wrap_after`` wants it."""
    return "".join(
        mark + ("<br>" if look.wraps(text.strip("▁Ġ␣ "), number) else "<wbr>")
        for number, (mark, text) in enumerate(zip(marks, texts, strict=True))
    )
