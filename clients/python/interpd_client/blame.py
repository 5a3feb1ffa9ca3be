"""Errors that point at the user's own line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interpd.errors import InterpdError, InvalidGraph, Violation
from interpd_client.places import Place

if TYPE_CHECKING:
    from interpd_client.runs import Job

_NODE = re.compile(r"\bnodes\[(\d+)\]")


def point_at(error: InterpdError, job: "Job") -> InterpdError:
    """``error`` with the user's line in it, where it says which node it is about."""
    if not job.places:
        return error
    if isinstance(error, InvalidGraph):
        return InvalidGraph(placed(error.violations, job.places), **error.facts)
    place = _place(f"{error.facts.get('path', '')} {error.message}", job.places)
    if place is None and error.facts.get("node", "").isdigit():
        place = _place(f"nodes[{error.facts['node']}]", job.places)
    if place is None:
        labels = {node.label: where for node, where in zip(job.request.graph.nodes, job.places, strict=True)}
        place = labels.get(error.facts.get("node") or "")
    if place is not None:
        error.facts["place"] = str(place)
        error.add_note(_shown(place))
    return error


def placed(violations: Iterable[Violation], places: Sequence[Place]) -> tuple[Violation, ...]:
    """The violations with the user's line at the end of their messages."""
    return tuple(_placed(violation, places) for violation in violations)


def _placed(violation: Violation, places: Sequence[Place]) -> Violation:
    place = _place(violation.path, places)
    return violation if place is None else replace(violation, message=f"{violation.message} ({_shown(place)})")


def _place(text: str, places: Sequence[Place]) -> Place | None:
    found = _NODE.search(text)
    number = int(found.group(1)) if found else len(places)
    return places[number] if number < len(places) else None


def _shown(place: Place) -> str:
    return f"{place}: {place.source}" if place.source else str(place)
