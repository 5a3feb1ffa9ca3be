"""Models and explanations as text and as HTML for notebooks."""

from collections.abc import Iterable, Iterator
from html import escape
from typing import final

from interpd.graph.schema import Manifest
from interpd.scheduler.interface import ModelStatus


@final
class Explanation(str):
    """A text of several lines that also shows as such where Python shows values: prompts and notebooks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self)}</pre>"


@final
class ModelList(tuple[ModelStatus, ...]):
    """The models of a daemon; shows as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        rows = [("model", "state", "replicas", "what"), *map(_row, self)] if self else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join(lines) or "no models"

    def _repr_html_(self) -> str:
        return table_html([("model", "state", "replicas", "what"), *map(_row, self)])


def model_html(manifest: Manifest) -> str:
    """A table of facts about a model and of what its workers offer."""
    return table_html([("model", manifest.model.name), *_facts(manifest)])


def table_html(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of text as a table; the first holds the headings."""
    head, *rest = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rest]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _row(status: ModelStatus) -> tuple[str, ...]:
    info = status.info
    what = f"{info.architecture}, {info.depth} layers, {info.dtype} on {info.device}" if info is not None else ""
    why = "; ".join(part for part in (what, status.detail) if part)
    return status.name, status.state, f"{status.n_ready} of {status.n_replicas}", why


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    info = manifest.model
    yield "source", f"{info.source} at {info.revision}"
    yield "architecture", f"{info.architecture}, {info.depth} layers"
    yield "sizes", ", ".join(f"{name} {size}" for name, size in info.sizes.items())
    yield "runs as", f"{info.dtype} on {info.device}"
    canonical = sum(site.canonical for site in manifest.sites.values())
    yield "sites", f"{canonical}, and {len(manifest.sites) - canonical} raw module paths"
    own = [name for name, op in manifest.ops.items() if op.plugin != "interpd"]
    yield "operations", f"{len(manifest.ops) - len(own)} built in" + (f"; of plugins: {', '.join(own)}" if own else "")
    if manifest.artifacts:
        yield "artifacts", ", ".join(manifest.artifacts)
