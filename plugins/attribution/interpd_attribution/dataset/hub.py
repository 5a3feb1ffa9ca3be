"""Datasets of the hub, read by the library ``datasets`` where it is installed."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_attribution.dataset.local_files import Record


def hub_records(name: str, arguments: Mapping[str, Any]) -> Iterator[Record]:
    """The records of a dataset of the hub.

    Args:
        name: ``OWNER/NAME``.
        arguments: Those of ``datasets.load_dataset``.

    Raises ``FeatureUnsupported`` where ``datasets`` is not installed, ``InvalidRequest`` for what it refuses.
    """
    if "trust_remote_code" in arguments:
        raise InvalidRequest("trust_remote_code: code that comes with a dataset is never run; leave it out")
    try:
        library = importlib.import_module("datasets")
    except ModuleNotFoundError:
        raise FeatureUnsupported(
            f"{name!r} is no file here, and datasets of the hub need their library: pip install datasets; or name "
            "files with --files"
        ) from None
    try:
        found = library.load_dataset(name, **arguments)
    except Exception as error:  # a library and, behind it, a network, which may raise anything; whose it was is said
        raise InvalidRequest(f"datasets cannot load {name!r}: {type(error).__name__}: {error}") from error
    if isinstance(found, Mapping):
        raise InvalidRequest(f"{name!r} has the splits {', '.join(found)}: say which, --split")
    for number, row in enumerate(found):
        yield f"{name}, row {number}", row
