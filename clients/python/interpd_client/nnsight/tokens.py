"""The ids that a generation brings, in the shape that transformers gives them."""

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
    """

    def __init__(self, recorder: "Recorder", owner: "Pass", plan: Plan) -> None:
        self._recorder = recorder
        self._owner = owner
        self._plan = plan

    def passed_through(self, envoy: Any) -> Recorded:
        """The ids, after nnsight's ``model.generator`` has shown them to the block."""
        ids = self._late(self.whole, self._owner.length + self._owner.n_steps)
        generator = getattr(envoy, "generator", None)
        return ids if generator is None else generator(ids, hook=True)

    def whole(self) -> Tensor:
        """Prompts and new tokens, ``[row, position]``, shorter rows filled up as transformers fills them."""
        result = self._recorder.result
        if result is None:
            raise CannotRecord("nothing was run, so nothing was generated")
        new = {item.invoke: list(item.token_ids) for item in result.generated}
        most = max(len(new[row.invoke]) for row in self._owner.rows)
        pad = self._plan.pad_id
        rows = [
            [*[pad] * row.padding, *row.ids, *new[row.invoke], *[pad] * (most - len(new[row.invoke]))]
            for row in self._owner.rows
        ]
        return torch.tensor(rows)

    def _late(self, compute: Any, length: int) -> Recorded:
        shadow = torch.empty((len(self._owner.rows), length), dtype=torch.int64, device="meta")
        n_rows = len(self._owner.rows)
        memory = Late(shadow, lambda resolve: compute(), [], is_certain=self._plan.is_certain, n_rows=n_rows)
        return self._recorder.view(memory, (), shadow)
