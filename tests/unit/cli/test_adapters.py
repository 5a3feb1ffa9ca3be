"""``interpd adapters``, against a client without a daemon."""

import json

import interpd_client
import pytest
from interpd_client.testing import FakeTransport, fake_manifest

from interpd.cli import main
from interpd.specs import AdapterSpec


@pytest.fixture
def transport(monkeypatch):
    transport = FakeTransport(fake_manifest("llama"))
    monkeypatch.setattr(interpd_client, "connect", lambda address, **_: interpd_client.Client(transport))
    return transport


@pytest.fixture
def run(transport, capsys):
    def run(*arguments, code=0):
        assert main(list(arguments)) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return run


def test_an_adapter_comes_is_listed_and_goes(run, transport):
    assert json.loads(run("adapters", "load", "org/french@abc", "--json"))["source"] == "org/french"
    run("adapters", "load", "/there/german=de", "--model", "llama")
    assert [info["name"] for info in json.loads(run("adapters", "--json"))] == ["french", "de"]
    assert "de" in run("adapters")
    run("adapters", "unload", "french")
    assert list(transport.manifests["llama"].adapters) == ["de"]
    assert "no adapter 'french'" in run("adapters", "unload", "french", code=3)


def test_a_run_names_its_adapter(run, transport):
    run("adapters", "load", "/there/german=de")
    run("generate", "llama", "two words", "--max-new-tokens", "1", "--adapter", "de")
    assert transport.requests[-1].adapter == "de"
    assert "no adapter 'dee'; did you mean 'de'?" in run("generate", "llama", "two", "--adapter", "dee", code=3)


def test_a_model_is_loaded_with_adapters_and_spread(run, transport, monkeypatch):
    specs = []
    load = transport.load
    monkeypatch.setattr(transport, "load", lambda spec, timeout_s: specs.append(spec) or load(spec, timeout_s))
    run("load", "org/base=base", "--adapter", "fr=/fr", "--adapter", "de=org/de@abc", "--device-map", "balanced")
    assert specs[0].device_map == "balanced"
    assert specs[0].adapters == (AdapterSpec("fr", "/fr"), AdapterSpec("de", "org/de", "abc"))
