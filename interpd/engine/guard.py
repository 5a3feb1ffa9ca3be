"""One call of a plugin's function, walled off: it cannot change what others hold, nor torch's global state.

The function gets copies of its tensors, so whatever it does to them stays with it; that it did is an error all the
same, because next time it may be somebody else's result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interpd.errors import OpFailed
from interpd.graph.schema import OpSchema
from interpd.plugin.agreement import check_values


def call_guarded(
    schema: OpSchema, fn: Callable[..., Any], args: Sequence[Any], params: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[Any, ...]:
    """What a plugin's operation returns, as a tuple, checked against its declaration.

    Args:
        schema: The declaration.
        fn: The function.
        args: Values of its ports.
        params: Its constants and artifacts.
        sizes: Axis sizes that its artifacts bind.

    Raises:
        OpFailed: It changed an input in place, or returned what it had not declared. What it raises comes out.
    """
    copies = [copied(arg) for arg in args]
    named = {f"port {port.name!r}": arg for port, arg in zip(schema.inputs, copies, strict=False)}
    held = versions({**named, **{f"artifact {name!r}": value for name, value in params.items()}})
    try:
        with unchanged_globals():
            outputs = as_tuple(fn(*copies, **params))
    finally:
        if changed := changed_since(held):
            raise OpFailed(f"{describe(schema)} changed {', '.join(changed)} in place; it must return new tensors")
    problems = check_values(schema, copies, outputs, sizes)
    if problems:
        raise OpFailed(f"{describe(schema)} broke its declaration: {'; '.join(problems)}")
    return outputs


def describe(schema: OpSchema) -> str:
    """``op 'sae.encode@1' of plugin 'sae'``."""
    kind = "method" if schema.is_method else "op"
    return f"{kind} {schema.name + '@' + str(schema.version)!r} of plugin {schema.plugin!r}"


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Outputs by port, of a function that returns one value or several."""
    return tuple(value) if isinstance(value, tuple | list) else (value,)


@dataclass(frozen=True, slots=True)
class TorchState:
    """What of torch is global: grad mode, defaults, threads, precision, random states."""

    settings: tuple[Any, ...]
    """Of ``_SETTINGS``."""
    random: Tensor
    gpu_random: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> "TorchState":
        """The present state."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        gpu_random = tuple(torch.cuda.get_rng_state_all()) if on_gpu else ()
        return cls(tuple([get() for get, _ in _SETTINGS]), torch.get_rng_state(), gpu_random)

    def with_gradients(self) -> "TorchState":
        """The same, but operations are recorded."""
        return replace(self, settings=(True, *self.settings[1:]))

    def restore(self) -> None:
        """Makes this the present state."""
        for (get, put), value in zip(_SETTINGS, self.settings, strict=True):
            if get() != value:
                put(value)
        torch.set_rng_state(self.random)
        if self.gpu_random:
            torch.cuda.set_rng_state_all(list(self.gpu_random))


def _flag(place: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return (lambda: getattr(place, name)), (lambda value: setattr(place, name, value))


def _strictness() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    # the CPU is what there is without a default
    (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
    (torch.get_num_threads, torch.set_num_threads),
    (_strictness, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
    _flag(torch.backends.cudnn, "benchmark"),
    _flag(torch.backends.cudnn, "deterministic"),
    _flag(torch.backends.cudnn.conv, "fp32_precision"),
    _flag(torch.backends.cuda.matmul, "fp32_precision"),
    _flag(torch.backends.mkldnn.matmul, "fp32_precision"),
)
"""How each setting is looked at and made; the first says whether operations are recorded."""


@contextmanager
def unchanged_globals() -> Iterator[None]:
    """Puts torch's global state back to what it was."""
    before = TorchState.now()
    try:
        yield
    finally:
        before.restore()


def copied(value: Any) -> Any:
    """``value`` with its tensors copied."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        return tuple(copied(item) for item in value)
    return value


def changed_since(held: Mapping[str, tuple[Tensor, int]]) -> list[str]:
    """Where the tensors of ``versions`` were written to since."""
    return [where for where, (tensor, version) in held.items() if tensor._version != version]


def versions(values: Mapping[str, Any]) -> dict[str, tuple[Tensor, int]]:
    """Every tensor in ``values`` with its version counter, by where it is."""
    found: dict[str, tuple[Tensor, int]] = {}
    for where, value in values.items():
        if isinstance(value, Tensor):
            found[where] = (value, value._version)
        elif isinstance(value, tuple):
            found.update(versions({f"{where}[{i}]": item for i, item in enumerate(value)}))
        elif is_dataclass(value):
            found.update(versions({f"{where}.{item.name}": getattr(value, item.name) for item in fields(value)}))
    return found
