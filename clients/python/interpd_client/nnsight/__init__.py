"""Existing nnsight code on an interpd daemon, unchanged: ``pip install interpd-client[nnsight]``.

    from interpd_client.nnsight import Backend

    with model.trace("Elena Marsh was born in", backend=Backend(client, "facts")):
        h = model.transformer.h[3].output.save()

The block runs once, here, against tensors without numbers, and becomes a graph; the service never sees code.
"""

from importlib.metadata import PackageNotFoundError, version

NNSIGHT = "0.8.1"
"""The version of nnsight whose blocks are run, by its internals."""


def _check_nnsight() -> None:
    try:
        found = f"{version('nnsight')} is installed"
    except PackageNotFoundError:
        found = "it is not installed"
    if found != f"{NNSIGHT} is installed":
        raise ImportError(
            f"interpd_client.nnsight needs nnsight {NNSIGHT}, and {found}: pip install 'interpd-client[nnsight]'"
        )


_check_nnsight()

from interpd_client.nnsight.backend import Backend  # noqa: E402  # says first what is missing
from interpd_client.nnsight.errors import CannotRecord  # noqa: E402

__all__ = ["Backend", "CannotRecord"]
