"""The models of the golden answers, served with the plugin."""

import os
from pathlib import Path

import pytest
from attribution_golden import tiny

import interpd_client
from interpd_attribution import worker


@pytest.fixture(scope="package")
def served():
    """``served(name)``: a model of the golden numbers behind a client, opened once."""
    opened = {}

    def source_of(name):
        if name in tiny.NAMES:
            return tiny.model(name), tiny.tokenizer(name)
        shared = os.environ.get("INTERPD_SHARED", Path(__file__).resolve().parents[5] / "shared")
        folder = Path(shared) / "models" / name
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
        return str(folder)

    def model(name):
        if name not in opened:
            source = source_of(name)
            opened[name] = interpd_client.local(source, plugins={"attribution": worker}, name=name, progress=False)
        return opened[name].model(name)

    yield model
    for client in opened.values():
        client.close()
