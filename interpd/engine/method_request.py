"""What a method asks of its session: the arguments of one ``Session.forward``, and whether the model can take them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from torch import Tensor

from interpd.engine.binding import Binding
from interpd.engine.blame import Misuse
from interpd.engine.model_access import ModelAccess
from interpd.engine.planning import Step
from interpd.errors import CallerError, FeatureUnsupported
from interpd.graph.run import Lengths
from interpd.plugin.agreement import dtype_of
from interpd.plugin.annotations import Recomputed
from interpd.plugin.method import Begin


@dataclass(frozen=True)
class Side:
    """Token ids of several rows, padded on the right."""

    ids: Tensor
    lengths: tuple[int, ...]
    name: str
    """Of the argument, for messages."""

    def of_row(self, index: int) -> tuple[int, ...]:
        """The tokens of one row, without padding."""
        return tuple(self.ids[index, : self.lengths[index]].tolist())

    @property
    def n_pos(self) -> int:
        """Positions of each row, padding included."""
        return self.ids.shape[1]


@dataclass(frozen=True)
class PassRequest:
    """The arguments of ``Session.forward``."""

    own: Side
    reads: tuple[str, ...]
    edits: Mapping[str, Callable[[Tensor], Tensor]]
    grad: bool = False
    target: Side | None = None
    """Of an encoder-decoder model, whose sources ``own`` are then."""
    values: tuple[Recomputed, ...] = ()
    dropout_seed: int | None = None

    @cached_property
    def n_pos(self) -> int:
        """Positions of each row, those of the decoder where there are two sides; padding included."""
        return (self.target or self.own).n_pos

    @cached_property
    def begin(self) -> str | None:
        """Where the pass begins; ``None``: at its start."""
        return next((site for site, edit in self.edits.items() if isinstance(edit, Begin)), None)

    @property
    def width(self) -> Lengths:
        """Positions of each side, padding included."""
        return Lengths(self.n_pos, 0 if self.target is None else self.own.n_pos)

    @cached_property
    def rows(self) -> list[Lengths]:
        """The positions of each row."""
        if self.target is None:
            return [Lengths(length) for length in self.own.lengths]
        return [Lengths(*pair) for pair in zip(self.target.lengths, self.own.lengths, strict=True)]


def side(ids: object, lengths: Sequence[int] | None, name: str) -> Side:
    """Token ids as a method gives them. Raises ``Misuse``."""
    if not isinstance(ids, Tensor):
        raise Misuse(f"{name} is of type {type(ids).__name__}; write torch.tensor([tokens.ids])")
    whole = not (ids.is_floating_point() or ids.is_complex() or str(ids.dtype) == "torch.bool")
    if not whole or ids.ndim != 2 or not ids.numel():
        got = f"{dtype_of(ids)}{list(ids.shape)}"
        raise Misuse(f"{name} is {got}, expected whole numbers of shape [batch, pos]")
    batch, n_pos = ids.shape
    return Side(ids, tuple(int(length) for length in lengths) if lengths is not None else (n_pos,) * batch, name)


def check_seed(seed: object) -> None:
    """Raises ``Misuse`` for what is no seed of a pass with dropout."""
    if seed is not None and not (type(seed) is int and 0 <= seed < 1 << 63):
        raise Misuse(f"dropout_seed is {seed!r}, expected a whole number from 0 to 2**63 - 1, or None for no dropout")


def check_sides(access: ModelAccess, request: PassRequest) -> None:
    """Raises ``Misuse`` for ids and lengths that the model cannot take."""
    own, target, name = request.own, request.target, access.resident.info.name
    has_encoder = access.resident.info.has_encoder
    if has_encoder and target is None:
        raise Misuse(f"model {name!r} is an encoder-decoder model: give target_ids, what its decoder is given")
    if target is not None and not has_encoder:
        raise Misuse(f"model {name!r} has no encoder: leave target_ids out")
    _check_ids(access, own, access.n_vocab)
    turn = access.long_from
    if turn and min(own.lengths) <= turn < own.n_pos:
        text = f"rows of at most {turn} positions and longer ones cannot share a pass: this model turns them otherwise"
        raise FeatureUnsupported(text)
    if target is not None:
        _check_ids(access, target, access.n_target_vocab)
        if len(target.ids) != len(own.ids):
            raise Misuse(f"target_ids have {len(target.ids)} rows, input_ids {len(own.ids)}")


def _check_ids(access: ModelAccess, side: Side, n_vocab: int) -> None:
    ids, lengths, name = side.ids, side.lengths, side.name
    batch, n_pos = ids.shape
    if len(lengths) != batch or not all(1 <= length <= n_pos for length in lengths):
        raise Misuse(f"lengths {list(lengths)} of {name} {list(ids.shape)}: give 1..{n_pos} for each of the rows")
    most = access.resident.info.max_positions
    if most and n_pos > most:
        raise Misuse(f"{name} have {n_pos} positions, the model takes at most {most}")
    # an id out of range would end the context of a GPU, and everybody's work there
    least, greatest = ids.aminmax()
    if not 0 <= int(least) <= int(greatest) < n_vocab:
        wrong = int(ids[(ids < 0) | (ids >= n_vocab)][0])
        raise Misuse(f"{name} are not all within the vocabulary of {n_vocab}: {wrong} is the first")


def binding_of(bindings: Mapping[str, Binding], name: str, step: Step) -> Binding:
    """The binding of a site. Raises ``Misuse``, or ``CallerError`` where the caller named the site."""
    if name not in bindings:
        near = get_close_matches(name, bindings, 1)
        text = f"no site {name!r}" + (f"; nearest is {near[0]!r}" if near else "")
        named = [word for value in step.params.values() for word in (value if isinstance(value, tuple) else (value,))]
        raise CallerError(f"{step.name}: {text}", site=name) if name in named else Misuse(text, site=name)
    return bindings[name]


def argument_of(step: Step, handle: object) -> Any:
    """What a recomputed port of the method is given: a reference, or a constant. Raises ``Misuse``."""
    ports = {port.name: place for place, port in enumerate(step.schema.inputs) if port.recomputed}
    if not isinstance(handle, Recomputed) or handle.port not in ports:
        got = repr(handle.port) if isinstance(handle, Recomputed) else type(handle).__name__
        known = ", ".join(ports) or "none"
        raise Misuse(f"values are those of ports declared Recomputed (of {step.op}: {known}), got {got}")
    arg = step.inputs[ports[handle.port]]
    return arg[handle.number] if isinstance(arg, tuple) else arg


def handles_of(step: Step, given: Sequence[Any]) -> list[Any]:
    """What the method is given at its ports: handles in place of values that its passes compute anew."""
    return [
        _handles(port.name, arg) if port.recomputed else arg
        for port, arg in zip(step.schema.inputs, given, strict=False)
    ]


def _handles(port: str, arg: Any) -> Any:
    if isinstance(arg, tuple):
        return tuple(Recomputed(port, number) for number in range(len(arg)))
    return None if arg is None else Recomputed(port)
