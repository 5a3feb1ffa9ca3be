"""The methods that a model's workers offer, and what they take: read from the manifest, nothing is asked."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from interpd.errors import CallerError
from interpd.graph.schema import Manifest, OpSchema
from interpd_attribution.asked import COMMON, OF_WORKERS
from interpd_attribution.inseq_words import METHODS, STEP_FUNCTIONS, method_of
from interpd_attribution.step_functions import problems
from interpd_client import UnknownName
from interpd_client.names import nearest_names
from interpd_client.options import RunOptions

FAMILY = "attribution."
PLUGIN = "attribution"
VECTORS, HEADS = "_vectors", "_heads"

RENAMED = {"attributed_fn": "target", "contrast_targets": "contrast", "generation_args": "generation"}
"""Options of Inseq's calls that any method may be given, and their names here."""

_OWN = ("target", "baseline", "reduce")
"""Options that methods share, but not all, and of which each has its own kinds and default."""

_ALIKE = 0.7
"""From which likeness on an option is taken for what was meant."""

_SOURCE = re.compile(r"\n\nSource: (.*?)(?=\n\n|\Z)", re.DOTALL)
"""In the documentation of a method."""

_ARGS = re.compile(r"\n\nArgs:\n.*?(?=\n\n|\Z)", re.DOTALL)
"""All constants in the workers' words; each is told of beside its kind."""


def ids(manifest: Manifest) -> dict[str, str]:
    """The ids of the methods, and what each is in one line; ``<id>_vectors`` and ``<id>_heads`` are not listed."""
    found = {name.removeprefix(FAMILY): op for name, op in manifest.ops.items() if _is_method(op)}
    shown = {id_: op.summary for id_, op in found.items() if not _is_variant(id_, found)}
    return dict(sorted(shown.items()))


def schema_of(manifest: Manifest, id_: str, *, granular: bool = False) -> OpSchema:
    """What a method takes and gives. Raises ``UnknownName``, and ``CallerError`` for vectors of one that has none."""
    known = {name.removeprefix(FAMILY): op for name, op in manifest.ops.items() if _is_method(op)}
    if not known:
        raise CallerError(f"the workers of model {manifest.model.name!r} have no attribution{_why_none(manifest)}")
    name = id_.removeprefix(FAMILY)
    if name not in known:
        theirs = METHODS.get(name)
        near = (theirs.id,) if theirs else nearest_names(name, ids(manifest))
        there = "" if near else f"; there are {', '.join(ids(manifest))}"
        said = f"; {theirs.note}" if theirs else there + unused_as_hint(manifest, name, near)
        raise UnknownName(f"no attribution method {id_!r} in {manifest.model.name!r}{said}", name=id_, nearest=near)
    if not granular:
        return known[name]
    if name + VECTORS not in known:
        raise CallerError(f"method {id_!r} gives numbers, no vectors: leave granular out")
    return known[name + VECTORS]


def check_constants(schema: OpSchema, constants: Mapping[str, Any]) -> None:
    """Raises ``CallerError`` for a constant that the method does not take; kinds are the graph's business."""
    known = {param.name for param in schema.params}
    for name in constants:
        if name not in known:
            id_ = schema.name.removeprefix(FAMILY).removesuffix(VECTORS)
            raise CallerError(f"method {id_!r} has no option {name!r}; {_instead(schema, name)}")


def _instead(schema: OpSchema, name: str) -> str:
    """What to do about an option that a method does not take."""
    own = [param.name for param in schema.params if not _is_said_otherwise(param.name)]
    if name in COMMON:
        is_of_vectors = name == "reduce" and schema.name.endswith(VECTORS)
        return "granular keeps the vectors that it reduces: leave one of them out" if is_of_vectors else "leave it out"
    here = RENAMED.get(name) or method_of(schema.name.removeprefix(FAMILY).removesuffix(VECTORS)).renamed.get(name)
    if here:
        return f"it is {here!r} here"
    of = next((function for function, options in STEP_FUNCTIONS.items() if name in options), None)
    if of:
        return f"options of step functions stand behind their names: target='{of}({name}=...)'"
    near = get_close_matches(name, (*own, *COMMON, *RunOptions.__annotations__), 1, _ALIKE)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(own) or 'none of its own'}"


def _is_said_otherwise(name: str) -> bool:
    """Whether a constant of the workers' method is not written as such, but as an option that all methods share."""
    return name in OF_WORKERS or name.startswith("contrast_") or (name in COMMON and name not in _OWN)


def unused_as_hint(manifest: Manifest, name: str, near: Collection[str]) -> str:
    """What the workers could not use of other packages, to stand behind a name that is missed; or nothing.

    All of it where no name is ``near``; otherwise only an entry point of that very name.
    """
    found = problems(manifest)
    of_name = [problem for problem in found if problem.startswith(f"entry point {name!r} ")]
    return "".join(f"; not used: {problem}" for problem in (of_name if of_name or near else found))


def _why_none(manifest: Manifest) -> str:
    found = next((one for one in manifest.plugins if one.name == PLUGIN and one.status == "broken"), None)
    if found:
        return f": {found.problem}"
    return f"; it is one of the daemon's plugins: `interpd serve --plugin {PLUGIN}`"


def explained(schema: OpSchema, origin: str = "") -> str:
    """What a method is, where it comes from, and what it takes, as text.

    Args:
        schema: Of the method.
        origin: The distribution that brings it, where that is another package.
    """
    found = _SOURCE.search(schema.doc)
    doc, source = (_SOURCE.sub("", schema.doc, 1), found[1]) if found else (schema.doc or schema.summary, "")
    doc = _ARGS.sub("", doc, 1)
    lines = [f"{schema.name.removeprefix(FAMILY)}: {doc}".rstrip(), ""]
    named = [one for one in (source, schema.paper) if one]
    lines += [f"Source: {' '.join(named)}"] if named else []
    of = f"{origin}, for plugin {schema.plugin!r}" if origin else f"plugin {schema.plugin!r}"
    lines.append(f"Version {schema.version}, of {of}.")
    for param in schema.params:
        if _is_said_otherwise(param.name):
            continue
        kind = " or ".join(map(repr, param.choices)) or param.kind
        default = "" if param.required else f" = {param.default!r}"
        lines += [f"  {param.name}: {kind}{default}", *([f"      {param.doc}"] if param.doc else [])]
    takes_vectors = any(param.name == "reduce" for param in schema.params)
    shared = [name for name in COMMON if name not in (*_OWN, "method", *(() if takes_vectors else ("granular",)))]
    lines.append(f"As for all methods: {', '.join(shared)}.")
    return "\n".join(lines)


def _is_method(op: OpSchema) -> bool:
    """Attributes tokens; the family has methods that measure and list, too."""
    return op.is_method and op.name.startswith(FAMILY) and any(one.name == "scores" for one in op.outputs)


def _is_variant(id_: str, known: Mapping[str, object]) -> bool:
    return any(id_.endswith(end) and id_.removesuffix(end) in known for end in (VECTORS, HEADS))
