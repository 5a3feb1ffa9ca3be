import os
import socket

from interpd.worker.cluster import remove_stale
from interpd.worker.listeners import DOCUMENTED, Listener, listeners

NO_PID = 2**22 + 1
"""Above Linux's largest process id."""


def test_only_folders_of_dead_daemons_are_removed(tmp_path):
    dead, alive, other = (tmp_path / name for name in (f"interpd-{NO_PID}-x", f"interpd-{os.getpid()}-x", "interpd-x"))
    for folder in (dead, alive, other):
        folder.mkdir()
    remove_stale(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_a_listening_socket_is_found_and_its_role_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = [item for item in listeners(os.getpid(), port) if item.port == port]
    assert found == [Listener("service", "127.0.0.1", port, os.getpid())]
    assert found[0].role in DOCUMENTED


def test_loopback_is_told_from_all_interfaces():
    loopback = [Listener("x", address, 1, 1).is_loopback for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    assert all(loopback)
    assert not any(Listener("x", address, 1, 1).is_loopback for address in ("0.0.0.0", "::", "192.0.2.1"))
