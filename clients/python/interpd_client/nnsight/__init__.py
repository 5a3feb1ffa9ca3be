"""Existing nnsight code on an interpd daemon, unchanged: ``pip install interpd-client[nnsight]``.

    from interpd_client.nnsight import Backend

    with model.trace("Elena Marsh was born in", backend=Backend(client, "facts")):
        h = model.transformer.h[3].output.save()

The block runs once, here, against tensors without numbers, and becomes a graph; the service never sees code.
"""

from interpd_client.nnsight.backend import Backend
from interpd_client.nnsight.errors import CannotRecord

__all__ = ["Backend", "CannotRecord"]
