"""What is needed beside the client, and what is said where it is missing."""

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def imported_anew():
    found = importlib.util.find_spec("interpd_client.nnsight").origin
    spec = importlib.util.spec_from_file_location("another", found)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_without_nnsight_the_import_says_what_to_install(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"not installed: pip install 'interpd-client\[nnsight\]'"):
        imported_anew()


def test_another_version_of_nnsight_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9.0")
    with pytest.raises(ImportError, match=r"needs nnsight 0\.8\.1, and 0\.9\.0 is installed"):
        imported_anew()


def test_the_version_is_the_one_that_is_declared():
    from interpd_client.nnsight import NNSIGHT

    extra = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]["nnsight"]
    assert f"nnsight=={NNSIGHT}" in extra
    assert {re.split(r"[=<>]", item)[0] for item in extra} == {"nnsight", "torch", "transformers"}
