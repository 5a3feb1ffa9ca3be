"""What a plugin's hooks returned, checked and put under the plugin's name."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from interpd.graph.schema import ArtifactSchema, OpSchema
from interpd.plugin.artifact import RegisteredArtifact
from interpd.plugin.declaration import DeclarationError
from interpd.plugin.discovery import BUILT_IN
from interpd.plugin.method import RegisteredMethod
from interpd.plugin.op import RegisteredOp, flattened

RESERVED_FAMILIES = ("site", "tensor", "torch", "module", "param", "tokens")
"""First words of operation names that belong to the built-in plugin."""


@dataclasses.dataclass(frozen=True, slots=True)
class Declarations:
    """All that one plugin offers."""

    ops: Mapping[str, RegisteredOp]
    methods: Mapping[str, RegisteredMethod]
    artifact_kinds: Mapping[str, RegisteredArtifact]


def checked(
    plugin: str, collected: Mapping[str, Sequence[object]], kinds: Mapping[str, RegisteredArtifact]
) -> Declarations:
    """The declarations in ``collected`` (by hook). Raises ``DeclarationError`` that begins with the hook's name.

    Args:
        plugin: Whose they are.
        collected: What each ``interpd_register_*`` hook returned.
        kinds: Artifact kinds of the plugins before this one.
    """
    artifacts = _by_name(
        "interpd_register_artifacts", (_artifact(plugin, item) for item in collected["interpd_register_artifacts"])
    )
    ops = _by_name("interpd_register_ops", (_op(plugin, item) for item in collected["interpd_register_ops"]))
    methods = _by_name(
        "interpd_register_methods", (_method(plugin, item) for item in collected["interpd_register_methods"])
    )
    for hook, offered in (("interpd_register_ops", ops), ("interpd_register_methods", methods)):
        for item in offered.values():
            _check_schema(hook, item.schema, plugin, {*kinds, *artifacts})
    return Declarations(ops, methods, artifacts)


def _op(plugin: str, item: object) -> tuple[str, RegisteredOp]:
    if isinstance(item, RegisteredOp):
        schema = dataclasses.replace(item.schema, plugin=plugin)
        return schema.name, RegisteredOp(schema, item.fn)
    fn, schema = _declared("interpd_register_ops", "op", item, is_method=False)
    schema = dataclasses.replace(schema, plugin=plugin)
    return schema.name, RegisteredOp(schema, flattened(fn, schema))


def _method(plugin: str, item: object) -> tuple[str, RegisteredMethod]:
    fn, schema = _declared("interpd_register_methods", "method", item, is_method=True)
    schema = dataclasses.replace(schema, plugin=plugin)
    return schema.name, RegisteredMethod(schema, flattened(fn, schema))


def _artifact(plugin: str, item: object) -> tuple[str, RegisteredArtifact]:
    schema = getattr(item, "schema", None)
    if not isinstance(item, type) or not isinstance(schema, ArtifactSchema):
        raise DeclarationError(f"hook 'interpd_register_artifacts': {item!r} is not a class marked @artifact('...')")
    schema = dataclasses.replace(schema, plugin=plugin)
    return schema.kind, RegisteredArtifact(schema, item)


def _declared(hook: str, kind: str, item: Any, *, is_method: bool) -> tuple[Any, OpSchema]:
    schema = getattr(item, "schema", None)
    if not callable(item) or not isinstance(schema, OpSchema):
        raise DeclarationError(f"hook {hook!r}: {item!r} is not a function marked @{kind}('...')")
    if schema.is_method != is_method:
        other = "interpd_register_methods" if schema.is_method else "interpd_register_ops"
        raise DeclarationError(f"hook {hook!r}: {schema.name!r} is not marked @{kind}; return it from {other}")
    return item, schema


def _by_name(hook: str, items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, item in items:
        if name in named:
            raise DeclarationError(f"hook {hook!r}: {name!r} is returned twice")
        named[name] = item
    return named


def _check_schema(hook: str, schema: OpSchema, plugin: str, kinds: set[str]) -> None:
    family = schema.name.split(".")[0]
    if plugin != BUILT_IN and family in RESERVED_FAMILIES:
        raise DeclarationError(
            f"hook {hook!r}: {schema.name!r}: the family {family!r} is built in; write '{plugin}.<verb>'"
        )
    for port in (*(() if schema.is_method else schema.inputs), *schema.outputs):
        if port.recomputed:
            raise DeclarationError(
                f"hook {hook!r}: {schema.name!r}: only a port of a method can be Recomputed, not {port.name!r}"
            )
    for param in schema.params:
        kind = param.kind.removeprefix("artifact:")
        if kind != param.kind and kind not in kinds:
            raise DeclarationError(
                f"hook {hook!r}: {schema.name!r}: parameter {param.name!r} takes an artifact of kind {kind!r}, "
                "which no plugin registers; return its class from interpd_register_artifacts"
            )
