"""Which sockets the daemon and its Ray open, and what is known about each."""

from dataclasses import dataclass

import psutil

DOCUMENTED: dict[str, str] = {
    "service": "interpd.v1 over gRPC: the port that is printed; the only one for clients",
    "ray driver": "Ray's port of the daemon's own process",
    "gcs": "Ray's global control store",
    "raylet": "Ray's node manager and object manager, two ports",
    "runtime env agent": "Ray's runtime environment agent",
    "replica": "Ray's port of each process that holds a model",
}
"""Every role that may listen, all of them on loopback only. A test compares it with a running daemon."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One TCP socket in the listening state."""

    role: str
    """A key of ``DOCUMENTED``, or the name of an unknown process."""
    address: str
    port: int
    pid: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.address.removeprefix("::ffff:").startswith("127.") or self.address == "::1"


def listeners(pid: int, service_port: int) -> tuple[Listener, ...]:
    """Every listening TCP socket of a daemon and its descendants.

    Args:
        pid: Of the daemon.
        service_port: That it printed.
    """
    root = psutil.Process(pid)
    found: list[Listener] = []
    for process in (root, *root.children(recursive=True)):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                address, port = connection.laddr
                is_service = process.pid == pid and port == service_port
                found.append(Listener("service" if is_service else _role(process, pid), address, port, process.pid))
    return tuple(found)


def _role(process: psutil.Process, daemon_pid: int) -> str:
    name = " ".join(process.cmdline()) or process.name()
    if process.pid == daemon_pid:
        return "ray driver"
    if name.startswith("ray::ReplicaActor"):
        return "replica"
    if "RuntimeEnvAgent" in name:
        return "runtime env agent"
    return {"gcs_server": "gcs", "raylet": "raylet"}.get(process.name(), process.name())
