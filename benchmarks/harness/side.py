"""A library in a process of its own: what it needed in CPU seconds and memory, and what it found.

The process runs a script of this folder, possibly with the Python of another environment. It gets a job as a line of
JSON and answers with one, so that neither side has anything in its process that the other has not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Done:
    """A job that was done."""

    cpu_s: float
    grown_mb: float
    """By how much the process grew at most while it did the job."""
    scores: np.ndarray


class Side:
    """A process with the model of ``folder``, from ``__enter__`` to ``__exit__``; it has one thread."""

    def __init__(self, python: str, script: str, folder: Path, work: Path) -> None:
        self._command = [python, "-W", "ignore", str(HERE / script), str(folder)]
        self._name, self._work = script, work

    def __enter__(self) -> "Side":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        # lines are the only thing on its output that counts; what libraries print goes where errors go
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def do(self, job: str, **options: Any) -> Done:
        """What the process makes of a job."""
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        out = self._work / f"{Path(self._name).stem}.safetensors"
        pipes.stdin.write(json.dumps({"job": job, "out": str(out), "options": options}) + "\n")
        pipes.stdin.flush()
        line = pipes.stdout.readline()
        answer: Mapping[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise RuntimeError(f"{self._name}, {job}: {answer['error']}")
        return Done(answer["cpu_s"], answer["grown_mb"], load_file(out)["scores"])


@contextmanager
def both_sides(
    ours: str, theirs: str, python: str, write: Callable[[Path], None], tell: Callable[[str], None]
) -> Iterator[tuple[Side, Side]]:
    """Our side and theirs, with one model.

    Args:
        ours: Our script, which runs with this Python.
        theirs: Their script.
        python: What theirs runs with.
        write: Writes the model to a folder.
        tell: Is told what goes on.
    """
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="interpd-benchmarks-")))
        tell("writing the model")
        write(work / "model")
        tell("starting both sides")
        yield (
            stack.enter_context(Side(sys.executable, ours, work / "model", work)),
            stack.enter_context(Side(python, theirs, work / "model", work)),
        )
