"""What every test gets: one thread, no network, and the small real models where they are at hand."""

import os
import socket
from pathlib import Path

import pytest

# read by libraries when they are first imported, so this must stand here and not in a fixture
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the small real models, which is not part of this repository."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("INTERPD_SHARED", beside))
    if not (folder / "models").is_dir():
        reason = f"no small real models at {folder}; set INTERPD_SHARED"
        if os.environ.get("INTERPD_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ``slow`` and ``ray`` tests may connect beyond loopback (a Ray node speaks to its own address)."""
    if request.node.get_closest_marker("slow") or request.node.get_closest_marker("ray"):
        return
    connect = socket.socket.connect

    def connect_to_loopback(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"a fast test connects to {address}; mark it slow")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)
