"""The properties that every operation must have when it runs, each as one function that fails with a message naming it.

They are what the engine relies on: types come out as the checker predicted them, values that others hold stay as they
are, a request can be run again, and a request gets the same numbers whoever shares its pass.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpd.errors import CallerError
from interpd.graph.schema import OpSchema, PortSchema
from interpd.plugin.agreement import check_values, is_open
from interpd.plugin.op import RegisteredOp
from interpd.testing.declarations import Property, named
from interpd.testing.samples import ROW_AXIS, Sample, Sampler, open_end

SEEDS = (0, 1, 2)

SPREADS: tuple[tuple[int, ...], ...] = ((), (3, 2), (3, 2, 4))
"""What ``*batch`` may stand for besides one dimension."""


def outputs_of(op: RegisteredOp, sample: Sample) -> tuple[Any, ...]:
    """The outputs of one call, always as a tuple."""
    if op.fn is None:
        raise AssertionError(f"{named(op.schema)} has no function")
    try:
        value = op.fn(*sample.inputs, **sample.params)
    except Exception as error:  # whatever a plugin raises is a finding, to be named after its operation
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in sample.tensors())
        raise AssertionError(f"{named(op.schema)} raised {type(error).__name__}: {error} ({shown})") from error
    return value if isinstance(value, tuple) else (value,)


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _assert_as_declared(op: RegisteredOp, sample: Sample, when: str) -> None:
    problems = check_values(op.schema, sample.inputs, outputs_of(op, sample), sample.sizes)
    if problems:
        raise AssertionError(f"{named(op.schema)} {when}: {'; '.join(problems)}")


def returns_what_it_declares(op: RegisteredOp, sampler: Sampler) -> None:
    """Shapes and dtypes come out as declared, in float32 and in bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        _assert_as_declared(op, sampler.sample(dtype=dtype), f"in {dtype}")


def takes_one_row_and_one_position(op: RegisteredOp, sampler: Sampler) -> None:
    """It runs on the smallest request."""
    _assert_as_declared(op, sampler.sample(one=True), "on one row and one position")


def takes_any_number_of_dimensions(op: RegisteredOp, sampler: Sampler) -> None:
    """An open end (``*batch``) stands for none, one or several dimensions."""
    for spread in SPREADS:
        _assert_as_declared(op, sampler.sample(spread=spread), f"with {len(spread)} dimensions at its open end")


def takes_mixed_dtypes(op: RegisteredOp, sampler: Sampler) -> None:
    """A port declared ``Shaped`` takes another floating dtype than the first, or refuses it with ``CallerError``."""
    for first, others in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        one, other = sampler.sample(dtype=first), sampler.sample(dtype=others)
        kept = _floating_ports(op.schema) or _ports_of_any_dtype(op.schema)[:1]
        pairs = enumerate(zip(one.inputs, other.inputs, strict=True))
        sample = dataclasses.replace(one, inputs=tuple(a if index in kept else b for index, (a, b) in pairs))
        try:
            _assert_as_declared(op, sample, "on mixed dtypes")
        except AssertionError as error:
            if not isinstance(error.__cause__, CallerError):
                raise AssertionError(
                    f"{error}; cast the others, y.to(x.dtype), or raise CallerError, or declare the ports Float"
                ) from error.__cause__


def _floating_ports(schema: OpSchema) -> list[int]:
    """The ports that take any floating dtype, one at a time: the checker refuses a mix."""
    return [at for at, port in enumerate(schema.inputs) if port.type is not None and port.type.dtype == "float"]


def _ports_of_any_dtype(schema: OpSchema) -> list[int]:
    return [at for at, port in enumerate(schema.inputs) if port.type is not None and port.type.dtype == "any"]


def lets_gradients_through(op: RegisteredOp, sampler: Sampler) -> None:
    """Gradients pass from every floating output to the inputs, or it says ``differentiable=False``."""
    sample = sampler.sample().with_inputs(
        lambda tensor: tensor.detach().clone().requires_grad_() if tensor.is_floating_point() else tensor
    )
    leaves = [tensor for _, tensor in sample.tensors() if tensor.requires_grad]
    with torch.enable_grad():
        outputs = outputs_of(op, sample)
    for port, output in zip(op.schema.outputs, outputs, strict=True):
        if not output.is_floating_point():
            continue
        if not output.requires_grad:
            raise AssertionError(
                f"{named(op.schema)}: no gradient passes to output {port.name!r}; compute it without detach(), "
                ".data, no_grad() or numpy, or declare @op(..., differentiable=False)"
            )
        try:
            torch.autograd.grad(output.sum(), leaves, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise AssertionError(
                f"{named(op.schema)}: the gradient of output {port.name!r} raised {type(error).__name__}: {error}; "
                "declare @op(..., differentiable=False) if there is none"
            ) from error


def leaves_its_inputs_alone(op: RegisteredOp, sampler: Sampler) -> None:
    """Values are immutable: what others hold stays as it is."""
    for seed in SEEDS:
        sample = sampler.sample(seed)
        before = [(name, tensor, tensor.clone()) for name, tensor in sample.tensors()]
        outputs_of(op, sample)
        for name, tensor, copy in before:
            if not _same(tensor, copy):
                raise AssertionError(f"{named(op.schema)} changes its {name} in place; work on a copy")


def is_deterministic(op: RegisteredOp, sampler: Sampler) -> None:
    """Equal inputs give equal outputs, to the bit."""
    sample = sampler.sample()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = [output.clone() for output in outputs_of(op, sample)]
        torch.manual_seed(2)
        again = outputs_of(op, sample)
    for port, one, other in zip(op.schema.outputs, first, again, strict=True):
        if not _same(one, other):
            raise AssertionError(
                f"{named(op.schema)}: output {port.name!r} differs between two calls; take a seed as a constant and "
                "make a torch.Generator of it"
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
        if not _close(expected, got):
            raise AssertionError(
                f"{named(op.schema)} mixes rows: output {port.name!r} changes {when}; a row may depend on its own row "
                "only. Keep axis 'batch' out of every reduction, or declare @op(..., rows_mix=True)"
            )


def _with_rows(schema: OpSchema, sample: Sample, change: Callable[[Tensor, int], Tensor]) -> Sample:
    """The sample with ``change(tensor, dim of rows)`` applied to every input that has rows."""

    def changed(port: PortSchema, value: Any) -> Any:
        dim = row_dim(port)
        if isinstance(value, tuple):
            return tuple(changed(port, item) for item in value)
        return change(value, dim) if dim is not None and isinstance(value, Tensor) else value

    inputs = tuple(changed(port, value) for port, value in zip(schema.inputs, sample.inputs, strict=True))
    return dataclasses.replace(sample, inputs=inputs)


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


def refuses_what_it_cannot_take(op: RegisteredOp, sampler: Sampler) -> None:
    """A number out of range gives an exception or a result of the declared type: never another shape."""
    sample = sampler.sample()
    for name, value in odd_numbers(op.schema):
        odd = dataclasses.replace(sample, params={**sample.params, name: value})
        try:
            outputs = outputs_of(op, odd)
        except AssertionError:
            continue
        problems = check_values(op.schema, odd.inputs, outputs, {**odd.sizes, name: value})
        if problems:
            raise AssertionError(
                f"{named(op.schema)} with {name}={value}: {'; '.join(problems)}; raise CallerError for what is out of "
                "range"
            )


def odd_numbers(schema: OpSchema) -> list[tuple[str, Any]]:
    """Each constant that is a number, with values that hardly any operation can take."""
    odd: Mapping[str, tuple[Any, ...]] = {"int": (-10_000, 10_000), "float": (float("nan"), float("-inf"))}
    return [(param.name, value) for param in schema.params for value in odd.get(param.kind, ())]


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
                f"{named(op.schema)} with {dict(params)} raised {type(error).__name__}: {error}; raise CallerError, "
                "so that the caller learns that the mistake is theirs"
            ) from error
        raise AssertionError(f"{named(op.schema)} took {dict(params)}, which it should refuse with CallerError")

    return refuses


def properties_of(schema: OpSchema, sampler: Sampler) -> list[Property]:
    """The properties that this operation must have, of those that need it to run."""
    checks = [takes_one_row_and_one_position, leaves_its_inputs_alone, is_deterministic, refuses_what_it_cannot_take]
    if any(open_end(port) is not None for port in schema.inputs) and not sampler.gives_an_open_end():
        checks.append(takes_any_number_of_dimensions)
    any_dtype = _ports_of_any_dtype(schema)
    if len(any_dtype) > 1 or (any_dtype and _floating_ports(schema)):
        checks.append(takes_mixed_dtypes)
    if schema.differentiable and _floating_ports(schema):
        checks.append(lets_gradients_through)
    if any(row_dim(port) is not None for port in schema.inputs) and not schema.rows_mix:
        checks.append(keeps_rows_apart)
    return checks


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
