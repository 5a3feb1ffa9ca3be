"""``interpd artifacts``, against a client without a daemon."""

import json

import interpd_client
import pytest
from interpd_client.testing import FakeTransport, fake_manifest

from interpd.cli import main


@pytest.fixture
def addresses(monkeypatch):
    """The addresses that commands connect to; all reach one fake service with one model."""
    transport, seen = FakeTransport(fake_manifest("gpt2")), []

    def connect(address, **options):
        seen.append(address)
        return interpd_client.Client(transport)

    monkeypatch.setattr(interpd_client, "connect", connect)
    return seen


@pytest.fixture
def run(addresses, capsys):
    def run(*arguments, code=0):
        assert main(["artifacts", *arguments]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return run


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    return str(file)


def test_a_file_goes_up_is_listed_comes_down_and_goes(run, weights, tmp_path):
    assert "mine" in run("upload", "mine", weights, "--kind", "sae")
    assert [info["name"] for info in json.loads(run("--json"))] == ["mine"]
    back = tmp_path / "back"
    assert json.loads(run("download", "mine", str(back), "--json"))["n_bytes"] == 7
    assert back.read_bytes() == b"weights"
    run("delete", "mine")
    assert json.loads(run("--json")) == []


def test_a_download_has_the_name_of_the_artifact(run, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("upload", "mine", weights, "--kind", "sae")
    run("download", "mine")
    assert (tmp_path / "mine.safetensors").read_bytes() == b"weights"


def test_flags_stand_before_or_after_the_action(run, weights, addresses):
    run("--address", "a:1", "upload", "mine", weights, "--kind", "sae")
    run("download", "--address", "b:2", "mine", weights)
    assert addresses == ["a:1", "b:2"]
    assert "'nobody'" in run("--model", "nobody", "delete", "mine", code=3)


def test_what_is_not_there_is_refused(run, weights):
    assert "no artifact 'mine'" in run("delete", "mine", code=3)
    assert "there is no file '/nowhere'" in run("upload", "mine", "/nowhere", "--kind", "sae", code=3)
