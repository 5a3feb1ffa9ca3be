"""An engine with plugins, on a tiny model, that is stepped by hand: for what depends on single steps, and on events.

    with InProcessModel({"tuned_lens": interpd_tuned_lens.worker}) as model:
        last = model.events(Graph(...), max_steps=2)[-1]           # cancelled after two steps

The engine of ``interpd_client.local``, without its threads; whole graphs are easier written and run there.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np

from interpd.config import ModelSpec
from interpd.errors import InternalError
from interpd.graph.ir import Graph, Prompt
from interpd.graph.run import TERMINAL, Done, Event, Failed, Result, RunRequest
from interpd.graph.schema import Manifest
from interpd.plugin.artifact import save_artifact
from interpd.testing.tiny_models import TinyModel, tiny_gpt2
from interpd.worker.factory import engine_on, make_registry
from interpd.worker.given import loaded_from
from interpd.worker.options import ReplicaOptions


@dataclass(frozen=True)
class FinishedRun:
    """What came of a run that ended well."""

    results: Mapping[str, np.ndarray]
    """The graph's outputs by name."""
    events: tuple[Event, ...]
    """Everything that happened, in order; the last is ``Done``."""


class InProcessModel:
    """A tiny model, the plugins given, and the engine that runs graphs on both.

    Args:
        plugins: Modules by plugin name. Raises ``InternalError`` with the cause when one is broken.
        tiny: The model; a random GPT-2 of 3 layers when absent.
    """

    def __init__(self, plugins: Mapping[str, ModuleType], tiny: TinyModel | None = None) -> None:
        tiny = tiny or tiny_gpt2()
        options = ReplicaOptions(ModelSpec("tiny", name="tiny"), artifact_dir="", plugins=tuple(plugins))
        registry = make_registry(options, plugins)
        problems = [info.problem for info in registry.plugins if info.status == "broken"]
        if problems:
            raise InternalError("; ".join(problems))
        loaded = loaded_from(tiny.model, tiny.tokenizer, options.spec)
        self.engine = engine_on(loaded, registry, options)
        self.model = loaded.model
        self._numbers = count()
        self._files: tempfile.TemporaryDirectory[str] | None = None

    @property
    def manifest(self) -> Manifest:
        """What the engine offers now."""
        return self.engine.describe()

    def put_artifact(self, name: str, instance: object) -> None:
        """Makes an instance of a class marked ``@artifact`` known under ``name``."""
        kind = type(instance).schema.kind  # type: ignore[attr-defined]
        # the engine reads the file when the artifact is first used
        self._files = self._files or tempfile.TemporaryDirectory(prefix="interpd-testing-")
        path = Path(self._files.name, f"{next(self._numbers)}.safetensors")
        save_artifact(instance, path)
        self.engine.put_artifact(name, kind, str(path))

    def events(
        self, graph: Graph, *prompts: Prompt, cancel_after: int | None = None, max_steps: int | None = None
    ) -> Sequence[Event]:
        """Every event of one run, the terminal one last.

        Args:
            graph: What to run.
            prompts: Its invokes; one short text when there is none.
            cancel_after: Cancel once this many events have come.
            max_steps: Cancel after this many steps of the engine (a pass, or a slice of a method, each).
        """
        run_id = f"run-{next(self._numbers)}"
        self.engine.submit(RunRequest(run_id, "tiny", prompts or (Prompt(text="The cat sat on the mat."),), graph))
        seen: list[Event] = []
        n_steps = count()
        while not (seen and isinstance(seen[-1], TERMINAL)):
            is_over = max_steps is not None and next(n_steps) >= max_steps
            if is_over or (cancel_after is not None and len(seen) >= cancel_after):
                self.engine.cancel(run_id)
            seen.extend(event for event in self.engine.step() if event.run_id == run_id)
        return seen

    def run(self, graph: Graph, *prompts: Prompt) -> FinishedRun:
        """The results of one run. What ended it otherwise is raised."""
        events = self.events(graph, *prompts)
        last = events[-1]
        if isinstance(last, Failed):
            raise last.error
        if not isinstance(last, Done):
            raise InternalError(f"the run ended with {last}")
        finals = [event for event in events if isinstance(event, Result) and not event.partial]
        return FinishedRun({event.name: event.tensor.to_numpy() for event in finals}, tuple(events))

    def close(self) -> None:
        """Frees the model and the files of artifacts."""
        self.engine.close()
        if self._files is not None:
            self._files.cleanup()

    def __enter__(self) -> "InProcessModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
