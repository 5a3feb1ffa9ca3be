"""The ids that a generation brings, in the shape that transformers gives them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.generation import Plan
from interpd_client.nnsight.late import Late
from interpd_client.nnsight.tensor import Recorded

if TYPE_CHECKING:
    from interpd_client.nnsight.passes import Pass
    from interpd_client.nnsight.recorder import Recorder


class GeneratedIds:
    """The result of a generation: prompts and new tokens, known when it is over.

    Args:
        recorder: Has the result by then.
        owner: The generation.
        plan: How it ends.
        envoy: nnsight's model, whose ``generator`` and its ``streamer`` show the ids to the block.
    """

    def __init__(self, recorder: "Recorder", owner: "Pass", plan: Plan, envoy: Any) -> None:
        self._recorder = recorder
        self._owner = owner
        self._plan = plan
        self._generator = getattr(envoy, "generator", None)
        self._interleaver = envoy.interleaver

    def result(self) -> Recorded:
        """All ids, once nnsight's ``model.generator`` has shown them to the block."""
        ids = self._late(self._whole, (len(self._owner.rows), self._owner.length + self._owner.n_steps))
        return ids if self._generator is None else self._generator(ids, hook=True)

    def show_prompt(self) -> None:
        """Shows the ids of the prompts at ``model.generator.streamer``."""
        self._show(lambda: torch.tensor([[*row.pad_ids, *row.ids] for row in self._owner.rows]), 0)

    def show_token(self, step: int) -> None:
        """Shows what was chosen at a step at ``model.generator.streamer``."""
        length = self._owner.length + step
        self._show(lambda: self._late(lambda: self._whole()[:, length], (len(self._owner.rows),)), step)

    def _show(self, make: Callable[[], Tensor], step: int) -> None:
        streamer = None if self._generator is None else self._generator.streamer
        if streamer is None:
            return
        places = [f"{streamer.path}.{port}" for port in ("input", "output")]
        interleaver = self._interleaver
        if any(place in interleaver.parked or interleaver.observers.get(place) for place in places):
            for place in places:
                self._owner.serve(interleaver, place, step)
            streamer._module.put(make())
        else:
            for place in (places[0], f"{streamer.path}.skip", places[1]):
                interleaver.handle(place, None)

    def _whole(self) -> Tensor:
        """Prompts and new tokens, ``[row, position]``, shorter rows filled up as transformers fills them."""
        result = self._recorder.result
        if result is None:
            raise CannotRecord("nothing was run, so nothing was generated")
        new = {item.invoke: list(item.token_ids) for item in result.generated}
        most = max(len(new[row.invoke]) for row in self._owner.rows)
        rows = [
            [*row.pad_ids, *row.ids, *new[row.invoke], *[self._plan.pad_id] * (most - len(new[row.invoke]))]
            for row in self._owner.rows
        ]
        return torch.tensor(rows)

    def _late(self, compute: Callable[[], Tensor], shape: tuple[int, ...]) -> Recorded:
        shadow = torch.empty(shape, dtype=torch.int64, device="meta")
        is_certain = self._plan.is_certain or len(shape) == 1
        memory = Late(shadow, lambda resolve: compute(), [], is_certain=is_certain, n_rows=shape[0])
        return self._recorder.view(memory, (), shadow)
