"""The properties that every operation must have, each as one function that fails with a message naming the operation.

They are what the engine relies on: types come out as the checker predicted them, values that others hold stay as they
are, a request can be run again, and a request gets the same numbers whoever shares its pass.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpd.errors import CallerError
from interpd.graph.schema import OpSchema, PortSchema
from interpd.plugin.agreement import check_values, is_open
from interpd.plugin.op import RegisteredOp
from interpd.testing.samples import ROW_AXIS, Sample, Sampler
from interpd.wire.problems import Problems
from interpd.wire.schemas import op_from_proto, op_to_proto
from interpd.wire.v1.manifest_pb2 import OpSchema as OpSchemaMessage

SEEDS = (0, 1, 2)

PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}(v\d+)?|doi:10\.\d{4,9}/\S+|https://\S+")

Property = Callable[[RegisteredOp, Sampler], None]


def _named(op: RegisteredOp) -> str:
    return f"op '{op.schema.name}@{op.schema.version}'"


def outputs_of(op: RegisteredOp, sample: Sample) -> tuple[Any, ...]:
    """The outputs of one call, always as a tuple."""
    if op.fn is None:
        raise AssertionError(f"{_named(op)} has no function")
    try:
        value = op.fn(*sample.inputs, **sample.params)
    except Exception as error:  # whatever a plugin raises is a finding, to be named after its operation
        shapes = ", ".join(str(tuple(value.shape)) for _, value in sample.tensors())
        raise AssertionError(f"{_named(op)} raised {type(error).__name__}: {error} (inputs {shapes})") from error
    return value if isinstance(value, tuple) else (value,)


def has_a_summary(op: RegisteredOp, sampler: Sampler) -> None:
    """Its docstring begins with one line that says what comes back."""
    assert op.schema.summary, f"{_named(op)} has no docstring; its first line says what comes back, as a noun phrase"
    assert len(op.schema.summary) <= 100, f"{_named(op)}: the first line of its docstring is longer than 100 characters"


def paper_has_a_known_form(op: RegisteredOp, sampler: Sampler) -> None:
    """Its source, where it names one, can be found by others."""
    paper = op.schema.paper
    assert not paper or PAPER.fullmatch(paper), (
        f"{_named(op)}: paper {paper!r} is not 'arXiv:2303.08112', 'doi:10.1000/182' or an https address"
    )


def survives_the_wire(op: RegisteredOp, sampler: Sampler) -> None:
    """Clients in any language see the schema that the worker holds."""
    problems = Problems()
    message = op_to_proto(op.schema).SerializeToString()
    again = op_from_proto(OpSchemaMessage.FromString(message), op.schema.name, problems)
    assert again == op.schema, f"{_named(op)}: the schema changes on the wire: sent {op.schema}, got {again}"


def returns_what_it_declares(op: RegisteredOp, sampler: Sampler) -> None:
    """Shapes and dtypes come out as declared, in float32 and in bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        sample = sampler.sample(dtype=dtype)
        problems = check_values(op.schema, sample.inputs, outputs_of(op, sample), sample.sizes)
        assert not problems, f"{_named(op)} in {dtype}: {'; '.join(problems)}"


def takes_one_row_and_one_position(op: RegisteredOp, sampler: Sampler) -> None:
    """It runs on the smallest request."""
    sample = sampler.sample(one=True)
    problems = check_values(op.schema, sample.inputs, outputs_of(op, sample), sample.sizes)
    assert not problems, f"{_named(op)} on one row and one position: {'; '.join(problems)}"


def leaves_its_inputs_alone(op: RegisteredOp, sampler: Sampler) -> None:
    """Values are immutable: what others hold stays as it is."""
    for seed in SEEDS:
        sample = sampler.sample(seed)
        before = [(name, tensor, tensor.clone()) for name, tensor in sample.tensors()]
        outputs_of(op, sample)
        for name, tensor, copy in before:
            assert _same(tensor, copy), f"{_named(op)} changes its {name} in place; work on a copy"


def is_deterministic(op: RegisteredOp, sampler: Sampler) -> None:
    """Equal inputs give equal outputs, to the bit."""
    sample = sampler.sample()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = [output.clone() for output in outputs_of(op, sample)]
        torch.manual_seed(2)
        again = outputs_of(op, sample)
    for port, one, other in zip(op.schema.outputs, first, again, strict=True):
        assert _same(one, other), (
            f"{_named(op)}: output {port.name!r} differs between two calls; take a seed as a constant and make a "
            "torch.Generator of it"
        )


def keeps_rows_apart(op: RegisteredOp, sampler: Sampler) -> None:
    """A row of the output depends on the same row of the inputs and on nothing else."""
    for seed in SEEDS:
        sample = sampler.sample(seed)
        whole = outputs_of(op, sample)
        for rows in ([1, 0, 2], [1], [2, 1]):
            part = outputs_of(op, _with_rows(op.schema, sample, lambda tensor, dim, rows=rows: tensor[_at(dim, rows)]))
            _assert_rows(op, _rows_of(op, whole, rows), part, f"with rows {rows} of 3 alone")
        poisoned = outputs_of(op, _with_rows(op.schema, sample, _poison))
        healthy = [0, 2]
        _assert_rows(op, _rows_of(op, whole, healthy), _rows_of(op, poisoned, healthy), "with NaN in row 1")


def _rows_of(op: RegisteredOp, values: Sequence[Tensor], rows: list[int]) -> list[Tensor]:
    """The rows of each output that has rows; others whole, for they may not depend on who is there."""
    dims = map(row_dim, op.schema.outputs)
    return [value if dim is None else value[_at(dim, rows)] for dim, value in zip(dims, values, strict=True)]


def _assert_rows(op: RegisteredOp, whole: Sequence[Tensor], part: Sequence[Tensor], when: str) -> None:
    for port, expected, got in zip(op.schema.outputs, whole, part, strict=True):
        assert _close(expected, got), (
            f"{_named(op)} mixes rows: output {port.name!r} changes {when}; a row may depend on its own row only. Keep "
            "axis 'batch' out of every reduction, or declare @op(..., rows_mix=True)"
        )


def _with_rows(schema: OpSchema, sample: Sample, change: Callable[[Tensor, int], Tensor]) -> Sample:
    """The sample with ``change(tensor, dim of rows)`` applied to every input that has rows."""

    def changed(port: PortSchema, value: Any) -> Any:
        dim = row_dim(port)
        if isinstance(value, tuple):
            return tuple(changed(port, item) for item in value)
        return change(value, dim) if dim is not None and isinstance(value, Tensor) else value

    inputs = tuple(changed(port, value) for port, value in zip(schema.inputs, sample.inputs, strict=True))
    return Sample(inputs, sample.params, sample.sizes)


def _poison(tensor: Tensor, dim: int) -> Tensor:
    return tensor.index_fill(dim, torch.tensor([1]), float("nan")) if tensor.is_floating_point() else tensor


def _at(dim: int, rows: list[int]) -> tuple[Any, ...]:
    return (*(slice(None) for _ in range(dim)), rows)


def row_dim(port: PortSchema) -> int | None:
    """Which dimension of a port counts rows: the axis ``batch``, or an open end at the front."""
    for index, dim in enumerate(port.type.dims if port.type else ()):
        if dim.name == ROW_AXIS or (index == 0 and is_open(dim)):
            return index
    return None


def has_rows(schema: OpSchema) -> bool:
    """Whether any port counts rows."""
    return any(row_dim(port) is not None for port in schema.inputs)


def refuses_what_it_cannot_take(op: RegisteredOp, sampler: Sampler) -> None:
    """A number out of range gives an exception or a result of the declared type: never another shape."""
    sample = sampler.sample()
    for param in op.schema.params:
        if param.kind not in ("int", "float"):
            continue
        for value in (-10_000, 10_000) if param.kind == "int" else (float("nan"), float("-inf")):
            odd = Sample(sample.inputs, {**sample.params, param.name: value}, sample.sizes)
            try:
                outputs = outputs_of(op, odd)
            except AssertionError:
                continue
            problems = check_values(op.schema, odd.inputs, outputs, {**odd.sizes, param.name: value})
            assert not problems, (
                f"{_named(op)} with {param.name}={value}: {'; '.join(problems)}; "
                "raise CallerError for what is out of range"
            )


def refusal(params: Mapping[str, Any]) -> Property:
    """The property that ``params`` are refused with a ``CallerError``."""

    def refuses(op: RegisteredOp, sampler: Sampler) -> None:
        sample = sampler.sample()
        try:
            op.fn(*sample.inputs, **{**sample.params, **params})  # type: ignore[misc]
        except CallerError:
            return
        except Exception as error:  # anything else would be reported as the plugin's fault
            raise AssertionError(
                f"{_named(op)} with {dict(params)} raised {type(error).__name__}: {error}; raise CallerError, "
                "so that the caller learns that the mistake is theirs"
            ) from error
        raise AssertionError(f"{_named(op)} took {dict(params)}, which it should refuse with CallerError")

    return refuses


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    # NaN equals nothing, itself included
    return torch.nan_to_num(tensor, nan=12345.0) if tensor.is_floating_point() else tensor


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    finite = one[torch.isfinite(one)]
    scale = finite.abs().max().item() if finite.numel() else 1.0
    return torch.allclose(one, other, rtol=1e-5, atol=1e-5 * max(scale, 1e-6), equal_nan=True)
