"""The Ray actor that holds one replica: a host of it, in a process that is prepared for it."""

import gc
import importlib
import math
import os
import resource
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import psutil

from interpd import telemetry
from interpd.engine.plan import Engine
from interpd.graph.run import Event
from interpd.worker.host import ReplicaHost
from interpd.worker.options import Busy, ReplicaOptions
from interpd.worker.pieces import PIECE_BYTES, Piece, carried_bytes, cut


class ReplicaActor(ReplicaHost):
    """One replica. Ray makes it in a process of its own; see ``ray_link.py`` for the other end."""

    def __init__(self, options: ReplicaOptions) -> None:
        _prepare_process(options)
        super().__init__(options, lambda: _make_engine(options, self.report))
        self._cut: deque[Event | Piece] = deque()

    async def take(self) -> list[Event | Piece]:
        """The events that nobody has taken, large results in pieces, few of which are on their way at once."""
        if not self._cut:
            self._cut.extend(cut(await super().take()))
        batch, n_bytes = [], 0
        while self._cut and n_bytes < PIECE_BYTES:
            item = self._cut.popleft()
            n_bytes += carried_bytes(item)
            batch.append(item)
        return batch

    async def busy(self) -> Busy:
        """What the engine's thread does now, and what the process has taken of the machine."""
        most, own = resource.getrlimit(resource.RLIMIT_NOFILE)[0], psutil.Process()
        return replace(await super().busy(), files_share=own.num_fds() / most, n_threads=own.num_threads())

    async def pid(self) -> int:
        """The process that holds the model."""
        return os.getpid()


def _prepare_process(options: ReplicaOptions) -> None:
    """Sets what must stand before torch is imported.

    Ray gives an actor without CPUs one thread, leaves all GPUs visible to one without GPUs, and puts the folder in
    which the daemon was started before all installed packages: a file there must not pass for one of them.
    """
    if os.getcwd() in sys.path:
        sys.path.remove(os.getcwd())
    telemetry.configure("info" if options.trace_hooks else "warning")
    os.environ["OMP_NUM_THREADS"] = str(max(1, math.ceil(options.spec.num_cpus)))
    # threads that wait for one another spin by default: with anything else on the machine, the daemon itself included,
    # a pass of two threads then takes up to ten times as long as with one
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not options.spec.num_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _make_engine(options: ReplicaOptions, report: Callable[[str], None]) -> Engine:
    module, _, function = options.engine_factory.partition(":")
    make: Callable[[ReplicaOptions, Callable[[str], None]], Engine] = getattr(importlib.import_module(module), function)
    engine = make(options, report)
    # ray asks for a collection every ten seconds; modules and model are here to stay, and looking through them would
    # hold up whatever runs for a fifth of a second each time
    gc.collect()
    gc.freeze()
    return engine
