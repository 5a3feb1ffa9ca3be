"""Context attributions as HTML, without scripts."""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from interpd_attribution.pecore.reading import Mark, Marking, of_contexts, of_output, parameters, texts, written
from interpd_attribution.views.heatmap import exact, legend_html, paint
from interpd_attribution.views.style import STYLE

if TYPE_CHECKING:
    from interpd_attribution.pecore.result import ContextAttribution, ContextualCues

OWN_STYLE = """<style>
.ia.ctx .toks mark{margin:0;padding:2px 0}
.ia .cue mark{text-decoration:underline 2px var(--fg);text-underline-offset:3px;font-weight:700}
.ia dl{display:grid;grid-template-columns:max-content 1fr;gap:.1em .8em;margin:.2em 0 .4em 1.2em}
.ia dt{color:var(--dim)}.ia dd{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
</style>"""


def fragment(result: "ContextAttribution", marking: Marking) -> str:
    """A piece of HTML for any page: the output's tokens by sensitivity; sensitive ones unfold into their cues."""
    used, marks = of_output(result)
    bar = f'<span>{used.low:.4g}</span><span class="bar greens"></span><span>{used.high:.4g}</span>'
    parts = [
        "<h3>Context attribution</h3>",
        _pairs(texts(result)),
        f'<h4>output</h4><div class="legend">{bar}<span>how sensitive to the context; sensitive tokens are underlined'
        "</span></div>",
        f'<p class="toks">{_line(marks, "go")}</p>',
    ]
    if not result.cci_scores:
        parts.append('<p class="note">no token is sensitive to the context</p>')
    for number, one in enumerate(result.cci_scores):
        parts.append(_cues(result, one, marking, marks[one.cti_idx], is_open=number == 0))
    told = list(parameters(result))
    if told:
        parts.append(f"<details><summary>parameters</summary>{_pairs(told)}</details>")
    return f'{STYLE}{OWN_STYLE}<div class="ia ctx">{"".join(parts)}</div>'


def _cues(result: "ContextAttribution", one: "ContextualCues", marking: Marking, mark: Mark, *, is_open: bool) -> str:
    used, sides = of_contexts(result, one, marking)
    said = f" <small>{one.cti_score:.4g}</small>"
    if one.contrast_token not in (None, one.cti_token):
        said += f" instead of <mark><bdi>{escape(written(str(one.contrast_token)))}</bdi></mark>"
    is_any = any(mark.is_marked for _, marks in sides for mark in marks)
    body = [legend_html(used), f'<p class="note">{"cues are underlined" if is_any else "no token stands out"}</p>']
    body += [f'<div class="side">{name}</div><p class="toks">{_line(marks, "pn")}</p>' for name, marks in sides]
    outputs = (("with context", one.contextual_output), ("without", one.contextless_output))
    body.append(_pairs((name, text) for name, text in outputs if text))
    head = f"<summary>{_mark(mark, 'go')}{said}</summary>"
    return f"<details{' open' if is_open else ''}>{head}{''.join(body)}</details>"


def _line(marks: Iterable[Mark], kinds: str) -> str:
    # an invisible place to break after each
    return "<wbr>".join(_mark(mark, kinds) for mark in marks)


def _mark(mark: Mark, kinds: str) -> str:
    text = escape(mark.text)
    found = f'<mark{paint(mark.strength, kinds)} title="{text}: {exact(mark.score)}"><bdi>{text}</bdi></mark>'
    return f'<span class="cue">{found}</span>' if mark.is_marked else found


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd><bdi>{escape(text)}</bdi></dd>" for name, text in pairs)
    return f"<dl>{rows}</dl>" if rows else ""
