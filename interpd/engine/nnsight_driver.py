"""One forward pass of a model with a visitor on board: the only file that knows nnsight.

nnsight's interventions are greenlets: a ``Mediator`` parks on the name of a module's input or output, the model runs
until it arrives there, and they take turns on one thread. We use one mediator per pass, whose body walks the places
that anybody needs, in the order of the forward pass, and hands each tensor to a callback that may return another.
Which request reads or writes what is not known here.

Used of nnsight 0.8.1, each held by a contract test: ``NNsight(module).interleave(fn)``, ``interleaver.mediators``,
``interleaver.envoys``, ``interleaver.interleaving``, a subclass of ``Mediator`` with a ``_run`` of its own,
``Mediator.value``/``swap`` (both served in one visit), ``Mediator.skip``, ``EarlyStopException`` and
``OutOfOrderError``.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interpd.engine.binding import Location
from interpd.errors import FeatureUnsupported

_CONFIG = Path(__file__).with_name("nnsight_config.json")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """nnsight mounts ``.save`` on every object and patches ``Tensor.backward`` when imported; both are kept out."""
    before, backward = os.environ.get("NNSIGHT_CONFIG"), torch.Tensor.backward
    os.environ["NNSIGHT_CONFIG"] = str(_CONFIG)
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        os.environ.pop("NNSIGHT_CONFIG")
        if before is not None:
            os.environ["NNSIGHT_CONFIG"] = before


with _quiet_import():
    from nnsight import NNsight
    from nnsight.intervention.interleaver import EarlyStopException, Mediator, OutOfOrderError

Item = int | str | None
"""Which tensor of an output or of the arguments: as in ``Location.item``."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One arrival of the forward pass at a module's input or output, and the tensors there that matter."""

    path: str
    port: str
    order: int
    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"{self.path}.{self.port}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Blocks that a pass does not compute: each gives on what the first of them was given."""

    stream: Location
    """What the first block is given."""
    blocks: tuple[str, ...]
    """Their module paths, in forward order; what each returns is one tensor."""


OnVisit = Callable[[Visit, dict[Item, Tensor]], Mapping[Item, Tensor]]
"""Called at each visit with its tensors; returns those to replace."""


def visits_of(places: Iterable[Location]) -> tuple[Visit, ...]:
    """The visits, in forward order, that come by all ``places``."""
    items: dict[tuple[int, str, str], dict[Item, None]] = {}
    for place in places:
        items.setdefault((place.order, place.path, place.port), {})[place.item] = None
    return tuple(Visit(path, port, order, tuple(found)) for (order, path, port), found in sorted(items.items()))


class _Visitor(Mediator):
    """A mediator whose body is a function."""

    def __init__(self, body: Callable[[], None]) -> None:
        super().__init__(code=None, glbls={}, lcls={})
        self._body = body

    def _run(self) -> None:
        self._body()


class Driver:
    """Runs forward passes of one model, on one thread."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._root = NNsight(model)
        envoys = self._root.interleaver.envoys
        # modules that two paths share have one envoy, at the first path
        self._names = {path: envoys[id(module)].path for path, module in model.named_modules(remove_duplicate=False)}

    def run(
        self,
        inputs: Mapping[str, Any],
        visits: Sequence[Visit] = (),
        on_visit: OnVisit | None = None,
        *,
        grad: bool = False,
        stop: bool = False,
        left_out: LeftOut | None = None,
    ) -> Any:
        """What the model returned; ``None`` when the pass was stopped after the last visit.

        Args:
            inputs: Keyword arguments of the model's forward.
            visits: In ascending order.
            on_visit: Is called at each of them.
            grad: Record an autograd graph.
            stop: End the pass after the last visit.
            left_out: Blocks to leave out; no visit is inside them, and one is behind.

        Raises:
            FeatureUnsupported: One of the visits did not happen.
        """
        with torch.set_grad_enabled(grad):
            if not visits or on_visit is None:
                return self.model(**inputs)
            end = EarlyStopException() if stop else None
            self._root.interleaver.mediators.append(_Visitor(self._body(visits, on_visit, end, left_out)))
            try:
                return self._root.interleave(lambda: self.model(**inputs))
            except OutOfOrderError as error:
                raise FeatureUnsupported(
                    f"the pass did not come by one of {', '.join(map(str, visits))} "
                    f"in forward order ({error}); a module that runs only for some tokens cannot be read"
                ) from error
            except Exception as error:
                # the frames of the pass, which nnsight hangs on the exception a second time, hold its activations
                vars(error).pop("__intervention_tb__", None)
                raise
            finally:
                if end is not None:
                    _release_frames(end)

    def _body(
        self, visits: Sequence[Visit], on_visit: OnVisit, end: EarlyStopException | None, left_out: LeftOut | None
    ) -> Callable[[], None]:
        def body() -> None:
            last_before = -1 if left_out is None else left_out.stream.order
            for visit in visits:
                if left_out is not None and visit.order > last_before >= 0:
                    self._leave_out(left_out)
                    last_before = -1
                name = f"{self._names[visit.path]}.{visit.port}"
                payload = Mediator.value(name)
                changed = on_visit(visit, {item: _item_of(payload, visit, item) for item in visit.items})
                for item, tensor in changed.items():
                    payload = _with_item(payload, visit, item, tensor)
                if changed:
                    Mediator.swap(name, payload)
            if end is not None:
                raise end

        return body

    def _leave_out(self, left_out: LeftOut) -> None:
        stream = left_out.stream
        visit = Visit(stream.path, stream.port, stream.order, (stream.item,))
        given = _item_of(Mediator.value(f"{self._names[stream.path]}.{stream.port}"), visit, stream.item)
        for path in left_out.blocks:
            Mediator.skip(f"{self._names[path]}.skip", given)

    @contextmanager
    def stood_down(self) -> Iterator[None]:
        """While it lasts, modules of the model are ordinary modules: calls inside a visit reach no visitor."""
        interleaver = self._root.interleaver
        before, interleaver.interleaving = interleaver.interleaving, False
        try:
            yield
        finally:
            interleaver.interleaving = before


def _release_frames(error: Exception) -> None:
    """Lets go of the frames of a pass that ``error`` has ended: they and it would keep one another alive."""
    vars(error).pop("__intervention_tb__", None)
    error.__traceback__ = error.__context__ = None


def _item_of(payload: Any, visit: Visit, item: Item) -> Tensor:
    """A tensor in what nnsight hands over: an output, or the ``(args, kwargs)`` of a call."""
    if visit.port == "output":
        return payload if item is None else payload[item]
    args, kwargs = payload
    return args[item] if isinstance(item, int) else kwargs[item]


def _with_item(payload: Any, visit: Visit, item: Item, value: Tensor) -> Any:
    """``payload`` with one tensor replaced; the rest is kept as it is."""
    if visit.port == "output":
        return value if item is None else _with_part(payload, item, value)
    args, kwargs = payload
    if isinstance(item, int):
        return _with_part(args, item, value), kwargs
    return args, {**kwargs, item: value}


def _with_part(parts: Any, item: int | str, value: Tensor) -> Any:
    if isinstance(parts, tuple):
        parts_of = [*parts[:item], value, *parts[item + 1 :]]
        return type(parts)(*parts_of) if hasattr(parts, "_fields") else type(parts)(parts_of)
    # lists and the output classes of transformers; the pass owns this object
    parts[item] = value
    return parts
