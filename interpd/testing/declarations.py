"""What can be said of a declaration without running it: its words, its axes, its way over the wire.

Each property is a function that fails with a message naming the declaration.
"""

import dataclasses
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches

import jaxtyping

from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import Dim
from interpd.plugin.agreement import is_open
from interpd.plugin.artifact import RegisteredArtifact
from interpd.plugin.method import MethodContext
from interpd.plugin.op import RegisteredOp
from interpd.testing.samples import Sampler
from interpd.wire.problems import Problems
from interpd.wire.schemas import op_from_proto, op_to_proto
from interpd.wire.v1.manifest_pb2 import OpSchema as OpSchemaMessage

AXIS_WORDS = (
    *("batch", "pos", "query_pos", "key_pos", "src_pos", "step", "layer", "d_model", "head", "kv_head", "d_head"),
    *("d_mlp", "d_vocab", "d_sae", "sense", "rank", "feature", "score", "token"),
)
"""The words that axes have in this house; a plugin may have more."""

PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}(v\d+)?|doi:10\.\d{4,9}/\S+|https://\S+")

N_SUMMARY = 100
"""The longest first line of a docstring."""

Property = Callable[[RegisteredOp, Sampler], None]


def named(schema: OpSchema) -> str:
    """``op 'sae.encode@1'``, as messages call it."""
    return f"{'method' if schema.is_method else 'op'} '{schema.name}@{schema.version}'"


def has_a_summary(op: RegisteredOp, sampler: Sampler) -> None:
    """Its docstring begins with one line that says what comes back."""
    _check_summary(named(op.schema), op.schema.summary, "what comes back")


def artifact_has_a_summary(kind: RegisteredArtifact) -> None:
    """The docstring of its class begins with one line that says what it is."""
    # a dataclass without a docstring gets its signature for one
    is_made = kind.schema.summary.startswith(f"{kind.cls.__name__}(")
    _check_summary(f"artifact {kind.schema.kind!r}", "" if is_made else kind.schema.summary, "what it holds")


def _check_summary(what: str, summary: str, says: str) -> None:
    if not summary:
        raise AssertionError(f"{what} has no docstring; its first line says {says}, as a noun phrase")
    if len(summary) > N_SUMMARY:
        raise AssertionError(f"{what}: the first line of its docstring is longer than {N_SUMMARY} characters")


def paper_has_a_known_form(op: RegisteredOp, sampler: Sampler) -> None:
    """Its source, where it names one, can be found by others."""
    paper = op.schema.paper
    if paper and not PAPER.fullmatch(paper):
        raise AssertionError(
            f"{named(op.schema)}: paper {paper!r} is not 'arXiv:2303.08112', 'doi:10.1000/182' or an https address"
        )


def survives_the_wire(op: RegisteredOp, sampler: Sampler) -> None:
    """Clients in any language see the schema that the worker holds."""
    message = op_to_proto(op.schema).SerializeToString()
    again = op_from_proto(OpSchemaMessage.FromString(message), op.schema.name, Problems())
    if again != op.schema:
        raise AssertionError(f"{named(op.schema)}: the schema changes on the wire: sent {op.schema}, got {again}")


def binds_its_axes(op: RegisteredOp, sampler: Sampler) -> None:
    """Every axis of an output has its size from an input: warns of one that has not, fails where that is a slip."""
    words = {dim.name for dim in _dims(op.schema.inputs)}
    bound = words | {param.name for param in op.schema.params if param.kind == "int"} | sampler.artifact_axes()
    for dim in _dims(op.schema.outputs):
        if dim.name in bound or (op.schema.is_method and dim.name in AXIS_WORDS):
            continue
        slips = get_close_matches(dim.name, words - {*AXIS_WORDS}, 1, 0.8) if dim.name in AXIS_WORDS else []
        near = slips or get_close_matches(dim.name, sorted(bound | {*AXIS_WORDS} - {dim.name}), 1)
        hint = f"; nearest is {near[0]!r}" if near else ""
        message = f"{named(op.schema)}: no input, artifact or int constant binds the output's axis {dim.name!r}{hint}"
        if slips:
            raise AssertionError(f"{message}, which is no word for an axis: one of the two is misspelt")
        warnings.warn(f"{message}; its size is unknown before the run", stacklevel=2)


def _dims(ports: Iterable[PortSchema]) -> list[Dim]:
    """The dimensions of ports that have a word and no size of their own."""
    dims = [dim for port in ports if port.type is not None for dim in port.type.dims]
    return [dim for dim in dims if dim.name and dim.size is None and not is_open(dim)]


def is_declared_on_tensors(op: RegisteredOp, sampler: Sampler) -> None:
    """Its ports and outputs are annotated as tensors of torch, which is what it gets and must give."""
    if op.fn is not None:
        signature = inspect.signature(inspect.unwrap(op.fn), eval_str=True)
        annotations = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        _check_tensors(named(op.schema), {**annotations, "return": signature.return_annotation})


def artifact_is_declared_on_tensors(kind: RegisteredArtifact) -> None:
    """Its fields are annotated as tensors of torch."""
    _check_tensors(f"artifact {kind.schema.kind!r}", typing.get_type_hints(kind.cls))


def _check_tensors(what: str, annotations: Mapping[str, object]) -> None:
    for name, annotation in annotations.items():
        for array in _arrays(annotation):
            if array.__module__.partition(".")[0] != "torch":
                raise AssertionError(
                    f"{what}: {name!r} is annotated as {array.__module__}.{array.__name__}; values are tensors of "
                    'torch: write Float[torch.Tensor, "..."]'
                )


def _arrays(annotation: object) -> Iterator[type]:
    """The classes of arrays in an annotation: of a tensor, an optional one, or a tuple or dataclass of them."""
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        yield annotation.array_type
    elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield from (array for hint in typing.get_type_hints(annotation).values() for array in _arrays(hint))
    else:
        yield from (array for part in typing.get_args(annotation) for array in _arrays(part))


def types_its_context(op: RegisteredOp, sampler: Sampler) -> None:
    """A method's first parameter is annotated, so that editors and type checkers know it."""
    if op.fn is None:
        return
    first = next(iter(inspect.signature(inspect.unwrap(op.fn), eval_str=True).parameters.values()))
    if first.annotation is not MethodContext:
        raise AssertionError(f"{named(op.schema)}: its first parameter has no annotation; write ctx: MethodContext")
