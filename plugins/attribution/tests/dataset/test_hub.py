"""Datasets of the hub, through a library that may not be there."""

import sys
from types import SimpleNamespace

import pytest

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_attribution.dataset.hub import hub_records


def library(load):
    return SimpleNamespace(load_dataset=load)


def test_a_dataset_gives_its_rows_and_their_places(monkeypatch):
    asked = []

    def load(name, **arguments):
        asked.append((name, arguments))
        return [{"text": "a"}, {"text": "b"}]

    monkeypatch.setitem(sys.modules, "datasets", library(load))
    found = list(hub_records("owner/name", {"split": "test", "revision": "abc"}))
    assert found == [("owner/name, row 0", {"text": "a"}), ("owner/name, row 1", {"text": "b"})]
    assert asked == [("owner/name", {"split": "test", "revision": "abc"})]


def test_without_the_library_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FeatureUnsupported, match="pip install datasets; or name files with --files"):
        list(hub_records("owner/name", {}))


def test_code_that_comes_with_a_dataset_is_never_run():
    with pytest.raises(InvalidRequest, match="trust_remote_code: code that comes with a dataset is never run"):
        list(hub_records("owner/name", {"trust_remote_code": True}))


def test_what_the_library_refuses_is_said(monkeypatch):
    def load(name, **arguments):
        raise FileNotFoundError("no such dataset")

    monkeypatch.setitem(sys.modules, "datasets", library(load))
    with pytest.raises(InvalidRequest, match="datasets cannot load 'owner/name': FileNotFoundError: no such dataset"):
        list(hub_records("owner/name", {}))


def test_a_dataset_of_several_splits_wants_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", library(lambda name, **arguments: {"train": [], "test": []}))
    with pytest.raises(InvalidRequest, match="has the splits train, test: say which, --split"):
        list(hub_records("owner/name", {}))
