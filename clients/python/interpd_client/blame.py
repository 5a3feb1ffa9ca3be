"""Errors that point at the user's own line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from interpd.errors import InterpdError, InvalidGraph, Violation
from interpd.graph.check import CheckReport
from interpd.graph.ir import Graph
from interpd_client.places import Place

_NODE = re.compile(r"\bnodes\[(\d+)\]")


def point_at(error: InterpdError, graph: Graph, places: Sequence[Place]) -> InterpdError:
    """``error`` with the user's line in it, where it says which node of ``graph`` it is about."""
    if not places:
        return error
    if isinstance(error, InvalidGraph):
        return InvalidGraph(placed(error.violations, places), **error.facts)
    place = _place(f"{error.facts.get('path', '')} {error.message}", places)
    if place is None and error.facts.get("node", "").isdigit():
        place = _place(f"nodes[{error.facts['node']}]", places)
    if place is None:
        labels = {node.label: where for node, where in zip(graph.nodes, places, strict=True)}
        place = labels.get(error.facts.get("node") or "")
    if place is not None:
        error.facts["place"] = str(place)
        error.add_note(place.shown)
    return error


def placed_report(report: CheckReport, places: Sequence[Place]) -> CheckReport:
    """The report with the user's line at the end of each violation and note."""
    return replace(report, violations=placed(report.violations, places), notes=placed_texts(report.notes, places))


def placed_texts(texts: Iterable[str], places: Sequence[Place]) -> tuple[str, ...]:
    """The texts with the user's line at the end of those that say which node they are about."""
    found = ((text, _place(text, places)) for text in texts)
    return tuple(text if place is None else f"{text} ({place.shown})" for text, place in found)


def placed(violations: Iterable[Violation], places: Sequence[Place]) -> tuple[Violation, ...]:
    """The violations with the user's line at the end of their messages."""
    return tuple(_placed(violation, places) for violation in violations)


def _placed(violation: Violation, places: Sequence[Place]) -> Violation:
    place = _place(violation.path, places)
    return violation if place is None else replace(violation, message=f"{violation.message} ({place.shown})")


def _place(text: str, places: Sequence[Place]) -> Place | None:
    found = _NODE.search(text)
    number = int(found.group(1)) if found else len(places)
    return places[number] if number < len(places) else None
