"""A Ray of our own: quiet, on loopback only, token-authenticated, and gone when this process is.

Left to itself, Ray on Linux listens on all interfaces. It has a mode without clusters, which it takes on Windows and
macOS and in which every socket is bound to 127.0.0.1; we choose that mode everywhere, and ``listeners.py`` says what is
left. All of Ray's processes end with this one, also by ``kill -9``: ``reaper.py`` sees to it.
"""

import functools
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import ray
from ray._private import ray_constants

from interpd.errors import InternalError

PREFIX = "interpd-"
LOOPBACK = "127.0.0.1"


class Cluster:
    """Ray, from ``start`` to ``stop``. At most one per process.

    Args:
        state_dir: Folder for sockets, logs and the token; empty: a new one, removed at the end. Its path must be short,
            because Unix sockets (107 bytes) lie below it.
        object_store_bytes: Shared memory for large results.
    """

    def __init__(self, state_dir: str = "", object_store_bytes: int = 256 << 20) -> None:
        self._is_own = not state_dir
        self._object_store_bytes = object_store_bytes
        self._reaper: subprocess.Popen[bytes] | None = None
        if state_dir:
            self.state_dir = Path(state_dir).expanduser().resolve()
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        else:
            remove_stale(Path(tempfile.gettempdir()))
            self.state_dir = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))

    def start(self) -> None:
        """Starts Ray. Call it on the main thread: Ray's servers die with the thread that started them."""
        token = self.state_dir / "token"
        token.touch(mode=0o600)
        token.write_text(_process_token())
        # ray read its environment when it was imported; a new local cluster turns token authentication on by itself
        # unless one of these says otherwise
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            os.environ.pop(name, None)
        os.environ |= {
            "RAY_AUTH_TOKEN_PATH": str(token),
            # a fork in a worker must not deadlock in grpc
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # ray would run the processes that hold models at niceness 15, behind everything else on the machine
            "RAY_worker_niceness": "0",
        }
        # the variable above is read at ray's import, which may have been before; it rules child processes only
        ray_constants.ENABLE_RAY_CLUSTER = False
        logging.getLogger("ray").setLevel(logging.ERROR)
        self._start_reaper()
        ray.init(
            address="local",
            num_cpus=0,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
            namespace="interpd",
            object_store_memory=self._object_store_bytes,
            _temp_dir=str(self.state_dir / "ray"),
        )
        address = ray.util.get_node_ip_address()
        if address != LOOPBACK or os.environ.get("RAY_AUTH_MODE") != "token":
            self.stop()
            raise InternalError(
                f"ray listens on {address!r}, or without token authentication; this build of ray is unsafe"
            )

    def stop(self) -> None:
        """Ends Ray, waits until none of its processes is left, and removes its files; idempotent."""
        ray.shutdown()
        if self._reaper is not None:
            self._reaper.communicate()
            self._reaper = None
        elif self._is_own:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _start_reaper(self) -> None:
        folder = self.state_dir if self._is_own else self.state_dir / "ray"
        command = [sys.executable, "-m", "interpd.worker.reaper", str(folder), str(os.getpid())]
        # in a session of its own, so that Ctrl-C in a terminal does not end it
        self._reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


@functools.cache
def _process_token() -> str:
    """One token per process, because ray's driver side keeps the first that it reads."""
    return secrets.token_hex(32)


def remove_stale(folder: Path) -> None:
    """Removes what daemons that were killed left in ``folder``."""
    for path in folder.glob(PREFIX + "*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
