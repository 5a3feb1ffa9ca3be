"""A daemon in a process of its own, for tests and demonstrations: started, waited for, and ended whatever happens."""

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType

import psutil

READY = re.compile(rb"listening on (\S+):(\d+)\n")


class DaemonProcess:
    """A daemon, from ``__enter__`` to ``__exit__``.

    Args:
        arguments: Of ``python -m`` (the module first): ``("interpd", "serve", "--port", "0", ...)``.
        python: Of which environment.

    Raises:
        RuntimeError: It ended before it was ready; the message holds its log.
    """

    def __init__(self, *arguments: str, python: str = sys.executable) -> None:
        self._command = [python, "-m", *arguments]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop
        self._process: subprocess.Popen[bytes] | None = None
        self.host, self.port = "", 0

    def __enter__(self) -> "DaemonProcess":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self._process is not None, "the daemon was not started"
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits for its line."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=self._log)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        match = READY.fullmatch(line)
        if match is None:
            self.kill()
            raise RuntimeError(f"the daemon printed {line!r} instead of its address; its log:\n{self.log()}")
        self.host, self.port = match[1].decode(), int(match[2])

    def descendants(self) -> Sequence[psutil.Process]:
        """Its processes, Ray's and the workers'."""
        return psutil.Process(self.pid).children(recursive=True)

    def log(self) -> str:
        """What it wrote to standard error so far."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None, "the daemon was not started"
        self._process.send_signal(number)

    def wait_end(self, timeout_s: float = 60.0) -> int:
        """Its exit code."""
        assert self._process is not None, "the daemon was not started"
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ends it gently, or by force after the timeout; its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        return self._process.returncode

    def kill(self) -> None:
        """Ends it and all its processes at once."""
        if self._process is None or self._process.poll() is not None:
            return
        processes = [*self.descendants(), psutil.Process(self.pid)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
