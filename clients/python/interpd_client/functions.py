"""Functions by name: ``torch.softmax(x, -1)`` and ``t.ops.sae.encode(x, sae=...)``."""

from collections.abc import Callable
from typing import Any, final

from interpd.graph.bind import signature_text
from interpd.graph.builtin import BUILTIN_OPS
from interpd_client.names import UnknownName, nearest_names
from interpd_client.recording import Recording
from interpd_client.torch_names import VECTOR_NORM, all_names, operation
from interpd_client.value import apply, find_recording


@final
class TorchFunctions:
    """The functions of torch that a graph may use, by their own names.

    Without a trace of its own (``interpd_client.torch``) a function finds the trace through its arguments.
    """

    def __init__(self, recording: Recording | None = None, prefix: str = "torch.") -> None:
        self._recording = recording
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        full = self._prefix + name
        op = None if name.startswith("_") else operation(full)
        if op is not None:
            return self._function(op)
        if any(known.startswith(f"{full}.") for known in all_names()):
            return TorchFunctions(self._recording, f"{full}.")
        raise UnknownName(f"graphs have no function {full!r}", name=name, nearest=nearest_names(full, all_names()))

    def __dir__(self) -> list[str]:
        return sorted({op[len(self._prefix) :].partition(".")[0] for op in all_names() if op.startswith(self._prefix)})

    def __repr__(self) -> str:
        return f"<{self._prefix}* of graphs: {', '.join(self.__dir__())}>"

    def _function(self, op: str) -> Callable[..., Any]:
        def function(*args: object, **kwargs: object) -> Any:
            recording = self._recording or find_recording((*args, *kwargs.values()))
            if recording is None:
                raise TypeError(
                    f"{op} got no symbolic value; on constants use numpy, and to make a tensor inside a trace use "
                    f"`t.{op}`"
                )
            return apply(recording, op, args, kwargs)

        function.__name__ = function.__qualname__ = op
        schema = BUILTIN_OPS.get(op, BUILTIN_OPS[VECTOR_NORM])
        function.__doc__ = f"{schema.summary}\n\n    {signature_text(schema)}"
        return function


torch = TorchFunctions()
"""``torch.softmax(x, -1)``, ``torch.einsum("bpd,d->bp", h, v)``: any built-in function of torch on symbolic values."""


@final
class OperationFamily:
    """Operations whose names begin with one prefix: ``t.ops`` has all, ``t.ops.sae`` those of the plugin ``sae``."""

    def __init__(self, recording: Recording, invoke: Callable[[], int], prefix: str = "") -> None:
        self._recording = recording
        self._invoke = invoke
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        full = self._prefix + name
        ops = self._recording.manifest.ops
        if full in ops:
            return lambda *args, **params: call(self._recording, full, args, params, self._invoke)
        if name.startswith("_") or not any(op.startswith(f"{full}.") for op in ops):
            message = f"no operation or family {full!r} in {self._recording.manifest.model.name!r}"
            raise UnknownName(message, name=name, nearest=nearest_names(full, ops))
        return OperationFamily(self._recording, self._invoke, f"{full}.")

    def __dir__(self) -> list[str]:
        ops = self._recording.manifest.ops
        return sorted({op[len(self._prefix) :].partition(".")[0] for op in ops if op.startswith(self._prefix)})

    def __repr__(self) -> str:
        return f"<operations {self._prefix}*: {', '.join(self.__dir__())}>"


def call(
    recording: Recording,
    op: str,
    args: tuple[object, ...],
    params: dict[str, object],
    invoke: Callable[[], int],
) -> Any:
    """What any operation or method of the model's workers returns, called in the prompt that ``invoke`` names."""
    schema = recording.schema(op)
    # only these act in one prompt; asking for the prompt may raise where a trace has several
    in_prompt = schema.is_method or op.startswith(("site.", "tokens."))
    return apply(recording, op, args, params, invoke=invoke() if in_prompt else 0)
