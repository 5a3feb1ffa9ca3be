"""Context attributions for a terminal, as renderables of rich."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from interpd_attribution.pecore.reading import Mark, Marking, of_contexts, of_output, parameters, texts, written
from interpd_attribution.views.colours import BLUE, BROWN, GREEN, RED, Rgb, Scale
from interpd_attribution.views.terminal import style_of

if TYPE_CHECKING:
    from interpd_attribution.pecore.result import ContextAttribution, ContextualCues

Part = Text | Padding


def rendered(result: "ContextAttribution", marking: Marking, *, is_plain: bool = False) -> Group:
    """The output's tokens by sensitivity, and below it each sensitive one with its cues.

    ``is_plain``: for a terminal without colours, with brackets and numbers where there would be lines.
    """
    told = ", ".join(f"{name} {value}" for name, value in parameters(result) if "template" not in name)
    parts: list[Part] = [Text("Context attribution", "bold").append(f"  {told}", "not bold dim")]
    # an input may have line feeds and anything else
    parts += [Text(f"{name}: ", "dim").append(written(text), "not dim") for name, text in texts(result)]
    used, marks = of_output(result)
    parts.append(_line("output", marks, used, (GREEN, BROWN), is_plain=is_plain))
    if not result.cci_scores:
        parts.append(Text("no token is sensitive to the context", "dim"))
    for one in result.cci_scores:
        parts += _cues(result, one, marking, is_plain=is_plain)
    return Group(*parts)


def _cues(result: "ContextAttribution", one: "ContextualCues", marking: Marking, *, is_plain: bool) -> list[Part]:
    head = Text("→ ").append(written(one.cti_token), "bold").append(f"  {one.cti_score:.4g}", "dim")
    if one.contrast_token not in (None, one.cti_token):
        head.append("  instead of ", "dim").append(written(str(one.contrast_token)), "bold")
    used, sides = of_contexts(result, one, marking)
    lines = (_line(name, marks, used, (RED, BLUE), is_plain=is_plain) for name, marks in sides)
    return [head, *(Padding(line, (0, 0, 0, 2)) for line in lines)]


def _line(name: str, marks: list[Mark], used: Scale, colours: tuple[Rgb, Rgb], *, is_plain: bool) -> Text:
    line = Text(f"{name}: ", "dim")
    for mark in marks:
        drawn = style_of(abs(mark.score) if colours[0] == GREEN else mark.score, used, *colours) or Style.null()
        line.append(
            _bracketed(mark) if is_plain and mark.is_marked else mark.text,
            Style(dim=False) + drawn + Style(underline=mark.is_marked, bold=mark.is_marked),
        )
    return line


def _bracketed(mark: Mark) -> str:
    word = mark.text.lstrip()
    return f"{mark.text[: len(mark.text) - len(word)]}[{word} {mark.score:.4g}]"
