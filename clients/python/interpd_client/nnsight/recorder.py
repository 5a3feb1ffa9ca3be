"""Turns what a block does with tensors into a graph: the one place through which every function of torch comes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from nnsight.intervention.source import Controller
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpd.graph.bind import bind
from interpd.graph.ir import Arg, Dots, Graph, Ref, Slice, Steps
from interpd_client.constants import scalar
from interpd_client.indices import index_arg
from interpd_client.nnsight.attributes import KNOWN_BEFORE
from interpd_client.nnsight.bonds import WeightBond
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.functions import function_of
from interpd_client.nnsight.histories import READS
from interpd_client.nnsight.late import call_later, is_late
from interpd_client.nnsight.layout import mapped
from interpd_client.nnsight.memory import Memory, row_of
from interpd_client.nnsight.tensor import Recorded, part_of, recorded, recorded_in
from interpd_client.nnsight.views import Part, shares_memory
from interpd_client.recording import Recording
from interpd_client.result import Result
from interpd_client.value import to_arg

NOT_SAVED = (
    "this tensor belongs to a trace that has ended and was not saved there: write `.save()` on it in the block, as in "
    "`h = model.transformer.h[0].output.save()`"
)


class Recorder(TorchFunctionMode):
    """What one request records. A context manager: while it is entered, functions of torch come here.

    Args:
        recording: The graph.
        model: The user's own model, whose weights stand for those of the service.
    """

    def __init__(self, recording: Recording, model: nn.Module) -> None:
        super().__init__()
        self.recording = recording
        self.model = model
        self.made: list[Recorded] = []
        """Every tensor that the block was given, in order; kept, so that each has an identity of its own."""
        self.is_closed = False
        self.result: Result | None = None
        """What came back, once the request has run."""
        self.graph: Graph | None = None
        """What was sent."""
        self.refused: CannotRecord | None = None
        """The first refusal, which a block may have caught."""
        self.without_gradient: set[int] = set()
        """The operations that were recorded where torch's gradients are off."""
        self.targets: list[Any] = []
        """The losses of the backward blocks that are open."""
        self.frozen: dict[int, tuple[Tensor, str]] = {}
        """Tensors of the user that a place of the model was set to, by identity."""
        self.adopted: dict[int, tuple[Tensor, Recorded]] = {}
        """Tensors of the user that were changed in the block, and what stands for them, by identity."""
        self._owners: dict[int, Tensor] = {}
        self._names = _parameter_names(model, recording)
        self._weights: dict[str, Recorded] = {}
        self._constants: dict[int, tuple[Tensor, int, Arg]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.call(func, tuple(args), dict(kwargs or {}))

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function of torch gives in the block. Raises ``CannotRecord`` where no graph can give it."""
        first = len(self.recording.nodes)
        try:
            return self._call(func, args, kwargs)
        except CannotRecord as error:
            raise self.refusing(error) from error.__cause__
        finally:
            if not torch.is_grad_enabled():
                nodes = self.recording.nodes
                self.without_gradient |= {at for at in range(first, len(nodes)) if nodes[at].op not in READS}

    def refusing(self, error: CannotRecord) -> CannotRecord:
        """The same error, remembered: a block that goes on behind it would not do what it does with numbers."""
        self.refused = self.refused or error
        return error

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(recorded_in((args, kwargs)))
        for tensor in tensors:
            if tensor._recorder is not self:
                raise CannotRecord(NOT_SAVED if tensor._recorder.is_closed else "this tensor belongs to another trace")
        name = _name(func)
        if not tensors and not self._takes_known(name, args, kwargs):
            self._refuse_change(name, args)
            if name == "to":
                # `.to(model.device)` of a model without weights would take the numbers of the user's tensor away
                args, kwargs = _without_meta(args, kwargs)
            return func(*args, **kwargs)
        if self.is_closed and not name.startswith("__get__"):
            raise CannotRecord(NOT_SAVED)
        if is_late(tensors) and name not in KNOWN_BEFORE:
            return call_later(self, func, args, kwargs, tensors)
        args, kwargs = mapped((args, kwargs), self._known_or_same)
        out = function_of(name)(self, func, args, kwargs)
        # a method that changes a tensor in place gives back that very object
        return self._owners.get(id(out), out) if self._owners else out

    def _takes_known(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if name.startswith(("__get__", "__set__", "__hash__", "__repr__", "data_ptr", "is_")) or self.is_closed:
            return False
        found = False

        def look(tensor: Tensor) -> Tensor:
            nonlocal found
            found = found or id(tensor) in self._names or id(tensor) in self.adopted
            return tensor

        mapped((args, kwargs), look)
        return found

    def _known_or_same(self, tensor: Tensor) -> Tensor:
        """What stands for a weight, or for a tensor that was changed; any other tensor is itself."""
        name = self._names.get(id(tensor))
        if name is not None:
            return self.weight(name)
        if id(tensor) in self.adopted:
            return self.adopted[id(tensor)][1]
        if not isinstance(tensor, Recorded):
            for changed, _ in self.adopted.values():
                if shares_memory(changed, tensor):
                    raise CannotRecord(
                        "this tensor is a view of one that was changed in the block and does not know it; use the "
                        "tensor that was changed"
                    )
        return tensor

    def weight(self, name: str) -> Recorded:
        """A weight or buffer of the model, as the service has it."""
        if name not in self._weights:
            kind = self.recording.manifest.parameters[name]
            shape = tuple(dim.size or 0 for dim in kind.dims)
            shadow = torch.empty(shape, dtype=getattr(torch, kind.dtype), device="meta")
            part = Part(self.node("param.read", name=name))
            self._weights[name] = self.view(Memory(shadow, [part], bond=WeightBond(name, part)), (), shadow)
        return self._weights[name]

    def _refuse_change(self, name: str, args: tuple[Any, ...]) -> None:
        changed = args[0] if args and (name == "__setitem__" or (name[-1:] == "_" and name[-2:] != "__")) else None
        if id(changed) in self.frozen:
            raise CannotRecord(
                f"this changes a tensor in place that {self.frozen[id(changed)][1]!r} was set to; set the place to a "
                "`.clone()` of it, or change the tensor before"
            )

    # values

    def new(self, part: Part, shadow: Tensor) -> Recorded:
        """A tensor of its own, of which nothing else is a view."""
        return self.view(Memory(shadow, [part]), (), shadow)

    def view(self, memory: Memory, steps: Any, shadow: Tensor) -> Recorded:
        """A tensor that looks at a memory."""
        made = recorded(self, memory, steps, shadow)
        made._place = self.recording.place()
        self.made.append(made)
        if steps and memory.has_padding and memory.chosen_rows(steps) is None:
            # raised here for a view of what is padding
            memory.part(self, steps)
        return made

    def wrapped(self, out: Any, node: int) -> Any:
        """The outputs of a node as tensors in the structure that torch gives them."""
        if isinstance(out, Tensor):
            return self.new(Part(Ref(node)), out)
        items = [self.new(Part(Ref(node, number)), item) for number, item in enumerate(out)]
        return type(out)(items)

    def shadowed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What ``func`` gives for tensors without data. Raises what torch raises for wrong shapes and dtypes."""
        args, kwargs = mapped((args, kwargs), shadow_of)
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            if "meta" not in str(error).lower():
                raise
            raise CannotRecord(
                f"torch's {_name(func)!r} gives a shape that depends on numbers, which exist only when the model runs"
            ) from error

    # nodes

    def node(self, op: str, *args: Arg, **params: Arg) -> Ref:
        """The output of a new operation."""
        return Ref(self.append(op, args, params))

    def append(self, op: str, args: Any, kwargs: Mapping[str, Any]) -> int:
        """The number of a new operation. Raises ``CannotRecord`` for a call that graphs do not know."""
        try:
            node = bind(self.recording.schema(op), args, kwargs)
        except TypeError as error:
            raise CannotRecord(f"graphs do not know this form of the function: {error}") from None
        return self.recording.append(node)

    @contextmanager
    def at_step(self, step: int | None) -> Iterator[None]:
        """Inside, sites are read and written at one step of a generation (``None``: outside generations)."""
        before = self.recording.steps
        self.recording.steps = None if step is None else Steps(step, step + 1)
        try:
            yield
        finally:
            self.recording.steps = before

    def index(self, index: object) -> Arg:
        """What stands in ``x[...]``, as the graph writes it."""
        return index_arg(index, self._ref_or_none)

    def _ref_or_none(self, value: object) -> Ref | None:
        return part_of(value).whole() if isinstance(value, Recorded) else None

    def argument(self, value: Any) -> Arg:
        """Anything that a function of torch takes, as an argument of a node."""
        if isinstance(value, Recorded):
            return part_of(value).whole()
        if isinstance(value, Tensor):
            return self.constant(value)
        if isinstance(value, (Ref, Slice, Dots)) or value is None or isinstance(value, str):
            return value
        if isinstance(value, (list, tuple)):
            return tuple(self.argument(item) for item in value)
        number = scalar(value)
        return number if number is not None else to_arg(self.recording, value)  # type: ignore[arg-type]

    def constant(self, tensor: Tensor) -> Arg:
        """A tensor of the user. Raises ``CannotRecord`` for one without data."""
        known = self._constants.get(id(tensor))
        if known is not None and known[0] is tensor and known[1] == tensor._version:
            return known[2]
        if tensor.is_meta:
            raise CannotRecord("this tensor lies on the meta device and has no numbers that could be sent")
        made = to_arg(self.recording, tensor)  # type: ignore[arg-type]
        self._constants[id(tensor)] = (tensor, tensor._version, made)
        return made

    def as_recorded(self, value: Any, like: Tensor) -> Recorded:
        """A number or tensor of the user as a tensor of the block; a number takes the dtype of ``like``."""
        if isinstance(value, Recorded):
            return value
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=like.dtype)
        return self.from_user(value)

    def from_user(self, tensor: Tensor) -> Recorded:
        """A tensor of the user as one of the block, by value."""
        value = self.constant(tensor)
        if not isinstance(value, Ref):
            # a constant is no value of its own in a graph: an operation that changes nothing makes it one
            dtype = str(tensor.dtype).removeprefix("torch.")
            value = self._held(value, dtype)
        return self.new(Part(value), shadow_of(tensor))

    def _held(self, value: Arg, dtype: str) -> Ref:
        return self.node("tensor.to", value, dtype=dtype)

    def of_rows(self, tensors: list[Any], out: Tensor) -> Recorded | None:
        """Batches one after another, as a batch whose rows are kept apart; ``None`` where they are no such batches."""
        if not all(isinstance(tensor, Recorded) and tensor.dtype == out.dtype for tensor in tensors):
            return None
        chosen = [tensor._memory.chosen_rows(tensor._steps) for tensor in tensors]
        if all(one is None for one in chosen):
            return None
        rows: list[Part | None] = []
        for tensor, one in zip(tensors, chosen, strict=True):
            if one is not None:
                rows += [tensor._memory.row(number) for number in one]
            elif tensor.shape[0] == 1:
                rows.append(part_of(tensor))
            else:
                whole = part_of(tensor)
                rows += [row_of(self, whole, number) for number in range(tensor.shape[0])]
        return self.view(Memory(out, rows, by_row=True), (), out) if rows else None

    def adopt(self, tensor: Tensor) -> Recorded:
        """A tensor of the user that is changed in the block: from here on a recorded one stands for it."""
        if tensor.requires_grad:
            raise CannotRecord("this tensor requires a gradient here, so it cannot be changed by what the service does")
        made = self.from_user(tensor)
        self.adopted[id(tensor)] = (tensor, made)
        self._owners[id(made)] = tensor
        return made

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Inside, a module of the model that is called on a value of the block is applied on the service."""
        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                schema = self.recording.manifest.modules.get(path)
                if schema is not None and schema.d_in is not None:
                    stack.enter_context(_applied(module, self._apply(path), schema.d_in))
            yield

    def _apply(self, path: str) -> Callable[[Tensor], Tensor]:
        return lambda x: function_of("interpd::module")(self, path, (x,), {})


def shadow_of(tensor: Tensor) -> Tensor:
    """A tensor without data of the same shape, dtype and strides."""
    if isinstance(tensor, Recorded):
        return tensor._shadow
    return (
        tensor
        if tensor.is_meta
        else torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    )


def _without_meta(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments without the meta device."""

    def is_meta(value: Any) -> bool:
        return isinstance(value, (torch.device, str)) and str(value) == "meta"

    kept = tuple(arg for arg in args[1:] if not is_meta(arg))
    named = {name: value for name, value in kwargs.items() if not is_meta(value)}
    return (args[0], *(kept or () if named or kept else (args[0].dtype,))), named


def _name(func: Any) -> str:
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__", "__delete__"):
        return f"{name}{func.__self__.__name__}"
    return name


def _parameter_names(model: nn.Module, recording: Recording) -> dict[int, str]:
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    known = recording.manifest.parameters
    return {id(tensor): name for name, tensor in reversed(named) if name in known}


class Applied(Controller):
    """A module's forward in a block: on a value of the block it is applied on the service.

    nnsight takes it for its own, which it runs for anything else.
    """

    def __init__(self, module: nn.Module, own: Any, apply: Callable[[Tensor], Tensor], d_in: int) -> None:
        super().__init__(module, own.state)
        self._own = own
        self._apply = apply
        self._d_in = d_in

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        x = args[0] if len(args) == 1 and not kwargs else None
        fits = isinstance(x, Tensor) and x.ndim > 0 and x.is_floating_point() and x.shape[-1] == self._d_in
        return self._apply(x) if fits else self._own(*args, **kwargs)


@contextmanager
def _applied(module: nn.Module, apply: Callable[[Tensor], Tensor], d_in: int) -> Iterator[None]:
    """``module`` with another forward, in the slot where nnsight keeps its own."""
    slot, own = module.__dict__, module.__dict__.get("forward")
    if not isinstance(own, Controller):
        yield
        return
    slot["forward"] = Applied(module, own, apply, d_in)
    try:
        yield
    finally:
        slot["forward"] = own
