"""The methods that a model's workers offer, and what they take: read from the manifest, nothing is asked."""

import re
from collections.abc import Mapping
from typing import Any

from interpd.errors import CallerError
from interpd.graph.schema import Manifest, OpSchema
from interpd_attribution.asked import COMMON, OF_WORKERS
from interpd_client import UnknownName
from interpd_client.names import nearest_names
from interpd_client.options import RunOptions

FAMILY = "attribution."
VECTORS, HEADS = "_vectors", "_heads"

_SOURCE = re.compile(r"\n\nSource: (.*?)(?=\n\n|\Z)", re.DOTALL)
"""In the documentation of a method."""


def ids(manifest: Manifest) -> dict[str, str]:
    """The ids of the methods, and what each is in one line; ``<id>_vectors`` and ``<id>_heads`` are not listed."""
    found = {name.removeprefix(FAMILY): op for name, op in manifest.ops.items() if _is_method(op)}
    shown = {id_: op.summary for id_, op in found.items() if not _is_variant(id_, found)}
    return dict(sorted(shown.items()))


def schema_of(manifest: Manifest, id_: str, *, granular: bool = False) -> OpSchema:
    """What a method takes and gives. Raises ``UnknownName``, and ``CallerError`` for vectors of one that has none."""
    known = {name.removeprefix(FAMILY): op for name, op in manifest.ops.items() if _is_method(op)}
    if not known:
        plugins = "the daemon's plugins: `interpd serve --plugin attribution`"
        raise CallerError(f"the workers of model {manifest.model.name!r} have no attribution; it is one of {plugins}")
    name = id_.removeprefix(FAMILY)
    if name not in known:
        near = nearest_names(name, ids(manifest))
        raise UnknownName(f"no attribution method {id_!r} in {manifest.model.name!r}", name=id_, nearest=near)
    if not granular:
        return known[name]
    if name + VECTORS not in known:
        raise CallerError(f"method {id_!r} gives numbers, no vectors: leave granular out")
    return known[name + VECTORS]


def check_constants(schema: OpSchema, constants: Mapping[str, Any]) -> None:
    """Raises ``CallerError`` for a constant that the method does not take; kinds are the graph's business."""
    known = {param.name for param in schema.params}
    own = [param.name for param in schema.params if param.name not in (*COMMON, *OF_WORKERS)]
    id_ = schema.name.removeprefix(FAMILY)
    for name in constants:
        if name not in known:
            near = nearest_names(name, (*own, *COMMON, *RunOptions.__annotations__))
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(own) or 'none'}"
            raise CallerError(f"method {id_!r} has no option {name!r}{hint}")


def explained(schema: OpSchema) -> str:
    """What a method is, where it comes from, and what it takes, as text."""
    found = _SOURCE.search(schema.doc)
    doc, source = (_SOURCE.sub("", schema.doc, 1), found[1]) if found else (schema.doc or schema.summary, "")
    lines = [f"{schema.name.removeprefix(FAMILY)}: {doc}".rstrip(), ""]
    named = [one for one in (source, schema.paper) if one]
    lines += [f"Source: {' '.join(named)}"] if named else []
    lines.append(f"Version {schema.version}, of plugin {schema.plugin!r}.")
    for param in schema.params:
        kind = " or ".join(map(repr, param.choices)) or param.kind
        default = "" if param.required else f" = {param.default!r}"
        lines.append(f"  {param.name}: {kind}{default}")
    return "\n".join(lines)


def _is_method(op: OpSchema) -> bool:
    """Attributes tokens; the family has methods that measure and list, too."""
    return op.is_method and op.name.startswith(FAMILY) and any(one.name == "scores" for one in op.outputs)


def _is_variant(id_: str, known: Mapping[str, object]) -> bool:
    return any(id_.endswith(end) and id_.removesuffix(end) in known for end in (VECTORS, HEADS))
