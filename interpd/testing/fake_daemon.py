"""``python -m interpd.testing.fake_daemon``: the real daemon, with Ray and gRPC, on engines without a model.

Takes dotted keys of the configuration: ``port=0 models=fake:x=fake worker.op_timeout_s=2``.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from interpd import daemon
from interpd.config import keys, load_config

FAKE_ENGINES = "interpd.testing.fake_engine:make_fake_engine"


def main(arguments: Sequence[str]) -> int:
    """Serves until told to stop; the exit code."""
    types = {info.name: info.type for info in keys()}
    flags: dict[str, Any] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        kind = types.get(name, str)
        flags[name] = kind(value) if kind in (int, float, str) else value.split(",")
    return asyncio.run(daemon.serve(load_config(flags), engine_factory=FAKE_ENGINES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
