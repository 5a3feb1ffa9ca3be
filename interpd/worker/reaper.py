"""Ends what a daemon left behind, also when the daemon was killed: ``python -m interpd.worker.reaper FOLDER PID``.

Ray's servers die with the process that started them, but its agents wait a minute for a store that is gone, and a
worker in an endless loop does not wait for anything. This little process waits until the other end of its standard
input is closed, which the kernel does whatever happened to the daemon (``PID``). Then it ends every process of that
Ray, known by the logs that they keep open below ``FOLDER`` (Ray overwrites their environment and arguments), and
removes the folder.
"""

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

GRACE_S = 1.0
"""For processes that are about to end by themselves."""


def processes_of(folder: Path, *, but: int = 0) -> list[psutil.Process]:
    """Ray's processes with a file open below ``folder``; this process and ``but`` are left out."""
    found = []
    for process in psutil.process_iter():
        # those of other users and those that end just now
        with contextlib.suppress(psutil.Error, OSError):
            is_other = process.pid not in (os.getpid(), but)
            if (
                is_other
                and _is_rays(process)
                and any(Path(f.path).is_relative_to(folder) for f in process.open_files())
            ):
                found.append(process)
    return found


def reap(folder: Path, *, but: int = 0) -> None:
    """Kills what is left of the Ray of ``folder`` and removes its files."""
    deadline = time.monotonic() + GRACE_S
    while processes_of(folder, but=but) and time.monotonic() < deadline:
        time.sleep(0.05)
    # again until none is left: one may have started another meanwhile
    while left := processes_of(folder, but=but):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
    shutil.rmtree(folder, ignore_errors=True)


def _is_rays(process: psutil.Process) -> bool:
    """Whether it may be one of Ray's: somebody who looks at the logs with ``tail`` is not."""
    exe = Path(process.exe())
    return exe == Path(sys.executable).resolve() or exe.name in ("gcs_server", "raylet")


if __name__ == "__main__":
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]), but=int(sys.argv[2]))
