"""nnsight in a process of its own, as its users run it: the model in memory, one ``with`` block per trace.

The process has the same number of threads as a worker of the daemon, the same device and the same dtype. It times
its work itself, so that talking to it costs it nothing.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.harness.users import N_TOP, Answer, Experiment


class LocalNnsight:
    """A process with the model of ``folder``, from ``__enter__`` to ``__exit__``."""

    def __init__(self, folder: Path, n_threads: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, n_threads, device), daemon=True)

    def __enter__(self) -> "LocalNnsight":
        # read by the tensor library when it is imported there
        before = os.environ.pop("OMP_NUM_THREADS", None)
        self._process.start()
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(10.0)
        self._process.kill()

    def read(self, text: str, layer: int) -> tuple[float, Any]:
        """(seconds, residual stream behind ``layer`` as numpy); the pass stops there."""
        return self._ask("read", text, layer)

    def one_by_one(self, experiments: Sequence[Experiment]) -> tuple[float, list[Answer]]:
        """(seconds, answers) of one trace after another."""
        return self._ask("one_by_one", experiments)

    def together(self, experiments: Sequence[Experiment]) -> tuple[float, list[Answer]]:
        """(seconds, answers) of one trace with an invoke for each."""
        return self._ask("together", experiments)

    def _ask(self, name: str, *args: object) -> tuple[float, Any]:
        self._pipe.send((name, args))
        try:
            seconds, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of local nnsight ended during {name!r}") from None
        if isinstance(answer, Exception):
            raise answer
        return seconds, answer


def _serve(pipe: Connection, folder: Path, n_threads: int, device: str) -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(n_threads)
    logging.disable_progress_bar()
    traces = _Traces(folder, device)
    while True:
        try:
            name, args = pipe.recv()
        except EOFError:
            return
        work: Callable[..., object] = getattr(traces, name)
        began = time.perf_counter()
        try:
            answer = work(*args)
        # the other process raises it: whatever fails here has to be seen there
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send((time.perf_counter() - began, answer))


class _Traces:
    """The work, as a user of nnsight writes it."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch
        from nnsight import TransformersModel

        self._torch = torch
        self._model = TransformersModel(
            str(folder), task="text-generation", device_map=device, dtype=torch.float32, dispatch=True
        )

    def read(self, text: str, layer: int) -> Any:
        model = self._model
        with self._torch.no_grad(), model.trace(text) as tracer:
            hidden = model.transformer.h[layer].output.save()
            tracer.stop()
        return hidden.cpu().numpy()

    def one_by_one(self, experiments: Sequence[Experiment]) -> list[Answer]:
        return [self._one(experiment) for experiment in experiments]

    def _one(self, experiment: Experiment) -> Answer:
        model = self._model
        with self._torch.no_grad(), model.trace(experiment.prompt):
            _scale(model.transformer.h[experiment.write_layer], experiment)
            hidden = model.transformer.h[experiment.read_layer].output[:, -1].save()
            top = model.lm_head.output[:, -1].topk(N_TOP).values.save()
        return {"hidden": hidden.cpu().numpy(), "top": top.cpu().numpy()}

    def together(self, experiments: Sequence[Experiment]) -> list[Answer]:
        model = self._model
        found: list[Any] = []
        with self._torch.no_grad(), model.trace() as tracer:
            found = list().save()  # this very object is what nnsight gives back
            for experiment in experiments:
                with tracer.invoke(experiment.prompt):
                    _scale(model.transformer.h[experiment.write_layer], experiment)
                    hidden = model.transformer.h[experiment.read_layer].output[:, -1]
                    found.append((hidden, model.lm_head.output[:, -1].topk(N_TOP).values))
        return [{"hidden": hidden.cpu().numpy(), "top": top.cpu().numpy()} for hidden, top in found]


def _scale(block: Any, experiment: Experiment) -> None:
    """Scales a site of a block in place; runs inside a trace."""
    if experiment.kind == "resid_post":
        block.output[:, -1] *= experiment.scale
    elif experiment.kind == "attn.out":
        block.attn.output[0][:, -1] *= experiment.scale
    else:
        block.mlp.output[:, -1] *= experiment.scale
