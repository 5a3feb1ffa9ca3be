"""An engine on a tiny random model, and requests in one line, for tests of what the engine computes.

bench = Bench.tiny("gpt2")
result = bench.run(ask([read("logits")], {"logits": 0}, "The cat sat"))
result["logits"], result.done.cost
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.errors import InterpdError
from interpd.graph.ir import Arg, Graph, Node, Prompt, Ref, Steps
from interpd.graph.run import Done, Event, Failed, Result, RunRequest
from interpd.plugin.registry import Registry, load_registry
from interpd.testing.tiny_models import tiny_model

_ids = count()


def read(site: str, *, invoke: int = 0, steps: Steps | None = None, **params: Arg) -> Node:
    """A ``site.read`` node."""
    return Node("site.read", (), {"site": site, **params}, invoke=invoke, steps=steps)


def write(value: Arg, site: str, *, invoke: int = 0, steps: Steps | None = None) -> Node:
    """A ``site.write`` node."""
    return Node("site.write", (value,), {"site": site}, invoke=invoke, steps=steps)


def call(op: str, *inputs: Arg, invoke: int = 0, **params: Arg) -> Node:
    """A node of any other operation."""
    return Node(op, inputs, params, invoke=invoke)


def ask(nodes: Sequence[Node], outputs: Mapping[str, int | Ref], *prompts: str | Prompt, **options: Any) -> RunRequest:
    """A request; an output is the index of a node or a reference. ``options`` are fields of ``RunRequest``."""
    refs = {name: Ref(at) if isinstance(at, int) else at for name, at in outputs.items()}
    texts = tuple(Prompt(text=prompt) if isinstance(prompt, str) else prompt for prompt in prompts)
    return RunRequest(f"run-{next(_ids)}", "tiny", texts, Graph(tuple(nodes), refs), **options)


@dataclass
class Outcome:
    """What became of one request."""

    events: list[Event] = field(default_factory=list)

    @property
    def done(self) -> Done:
        """Its ``Done``. Raises the error of a run that failed."""
        last = self.events[-1]
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, Done), last
        return last

    @property
    def error(self) -> InterpdError:
        """The error of a run that failed."""
        last = self.events[-1]
        assert isinstance(last, Failed), last
        return last.error

    def __getitem__(self, name: str) -> np.ndarray:
        """An output as an array. Raises the error of a run that failed."""
        self.done  # noqa: B018, raises for a run that failed
        found = [item for item in self.events if isinstance(item, Result) and item.name == name and not item.partial]
        return found[-1].tensor.to_numpy()


@dataclass
class Bench:
    """An engine, its model, and the loop that a worker would run."""

    engine: NnsightEngine
    model: PreTrainedModel

    @classmethod
    def tiny(
        cls,
        architecture: str = "gpt2",
        *,
        dtype: torch.dtype = torch.float32,
        registry: Registry | None = None,
        **options: Any,
    ) -> "Bench":
        """A bench on a tiny random model; ``options`` are the engine's."""
        tiny = tiny_model(architecture)
        model = tiny.model.to(dtype).requires_grad_(False)
        registry = registry or load_registry([])
        loaded = Loaded(model, tiny.tokenizer, ModelSpec(architecture), "seed 0")
        return cls(NnsightEngine(make_resident(loaded, registry), registry, **options), model)

    def ids(self, prompt: str) -> Tensor:
        """The token ids of a prompt, ``[1 pos]``."""
        return torch.tensor([self.engine.tokenize([Prompt(text=prompt)])[0].ids])

    def start(self, *requests: RunRequest) -> dict[str, Outcome]:
        """Hands requests to the engine; their outcomes by run id, empty as yet."""
        for request in requests:
            self.engine.submit(request)
        return {request.run_id: Outcome() for request in requests}

    def step(self, outcomes: Mapping[str, Outcome]) -> None:
        """One step of the engine; its events go to their outcomes."""
        for event in self.engine.step():
            outcomes[event.run_id].events.append(event)

    def run_all(self, *requests: RunRequest) -> list[Outcome]:
        """Runs requests together to their ends."""
        outcomes = self.start(*requests)
        while self.engine.has_work:
            self.step(outcomes)
        return list(outcomes.values())

    def run(self, request: RunRequest) -> Outcome:
        """Runs one request alone."""
        return self.run_all(request)[0]
