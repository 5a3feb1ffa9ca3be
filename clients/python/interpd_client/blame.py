"""Errors that point at the user's own line."""

import re
from collections.abc import Iterable
from dataclasses import replace

from interpd.errors import InterpdError, InvalidGraph, Violation
from interpd.graph.check import CheckReport
from interpd.graph.ir import Graph
from interpd_client.places import Place, Places

_PATH = re.compile(r"""(?:graph|prompts|generation)(?:\.\w+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])*(?=: )""")


def point_at(error: InterpdError, graph: Graph, places: Places) -> InterpdError:
    """``error`` with the user's line in it, where it says which part of the request it is about."""
    if not places.nodes and places.trace is None:
        return error
    if isinstance(error, InvalidGraph):
        return InvalidGraph(placed(error.violations, places), **error.facts)
    path = error.facts.get("path", "")
    place = places.of_path(path) if path else _place_of_node(error, graph, places)
    if place is None:
        return error
    error.facts["place"] = str(place)
    if _PATH.match(error.message):
        lines = (_led_by_its_line(line, places) for line in error.message.split("\n  "))
        # what a line says of every node that its loop made is said once
        error.message = "\n  ".join(dict.fromkeys(lines))
        error.args = (error.message,)
    else:
        error.add_note(place.shown)
    return error


def placed_report(report: CheckReport, places: Places) -> CheckReport:
    """The report with the user's line in each violation and at the end of each note."""
    return replace(report, violations=placed(report.violations, places), notes=placed_texts(report.notes, places))


def placed_texts(texts: Iterable[str], places: Places) -> tuple[str, ...]:
    """The texts with the user's line at the end of those that say which node they are about."""
    found = ((text, places.named_in(text)) for text in texts)
    return tuple(text if place is None else f"{text} ({place.shown})" for text, place in found)


def placed(violations: Iterable[Violation], places: Places) -> tuple[Violation, ...]:
    """The violations with the user's line, where it is known."""
    found = ((violation, places.of_path(violation.path)) for violation in violations)
    return tuple(violation if place is None else replace(violation, place=place.shown) for violation, place in found)


def _place_of_node(error: InterpdError, graph: Graph, places: Places) -> Place | None:
    """The line of the node that the text or the fact ``node`` of an error names."""
    node = error.facts.get("node", "")
    place = places.named_in(error.message) or (places.named_in(f"nodes[{node}]") if node.isdigit() else None)
    if place is None:
        labels = {one.label: where for one, where in zip(graph.nodes, places.nodes, strict=False)}
        place = labels.get(node) if node else None
    return place


def _led_by_its_line(line: str, places: Places) -> str:
    """One line of a message, ``path: sentence``, with the user's line in place of the path."""
    path = _PATH.match(line)
    place = places.of_path(path.group()) if path else None
    return line if path is None or place is None else f"{place.shown}\n    {line[path.end() + 2 :]}"
