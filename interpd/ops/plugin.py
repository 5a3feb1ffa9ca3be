"""The built-in operations as a plugin: they come in through the door that everybody else uses."""

from collections.abc import Sequence

from interpd.graph.builtin import BUILTIN_OPS
from interpd.ops.implementations import IMPLEMENTATIONS
from interpd.plugin.hookspecs import hookimpl
from interpd.plugin.op import RegisteredOp


@hookimpl
def interpd_register_ops() -> Sequence[RegisteredOp]:
    """Every built-in operation; those of the families ``site``, ``module``, ``param`` and ``tokens`` are run by the
    engine and have no function of their own."""
    return [RegisteredOp(schema, IMPLEMENTATIONS.get(name)) for name, schema in BUILTIN_OPS.items()]
