"""The model that a plugin's command works on."""

import argparse

import interpd_client
import pytest
from interpd_client.testing import FakeTransport, fake_manifest

from interpd.cli import PackageMissing, add_model, at_least, opened
from interpd.cli.ask import WrongCommandLine


def options(*words):
    parser = argparse.ArgumentParser()
    parser.set_defaults(address="localhost:1", timeout=None, json=False)
    add_model(parser)
    return parser.parse_args(words)


def test_a_model_of_the_daemon_is_known_by_its_name_by_its_source_and_as_the_only_one(monkeypatch):
    transport = FakeTransport(fake_manifest("small"))
    monkeypatch.setattr(interpd_client, "connect", lambda address, **options: interpd_client.Client(transport))
    for words in (["-m", "small"], ["--model", transport.manifests["small"].model.source], []):
        with opened(options(*words)) as model:
            assert model.name == "small"
    assert transport.is_closed


@pytest.mark.parametrize(
    ("words", "said"), [(["--in-process"], "say which model to load"), (["--device", "cpu"], "goes with --in-process")]
)
def test_options_of_the_other_place_are_wrong(words, said):
    with pytest.raises(WrongCommandLine, match=said), opened(options(*words)):
        pass


def test_what_a_model_of_this_process_lacks_is_said(monkeypatch):
    def local(*_, **__):
        raise ImportError("no torch here; pip install 'interpd[daemon]'")

    monkeypatch.setattr(interpd_client, "local", local)
    with (
        pytest.raises(PackageMissing, match=r"no torch here.*ask a daemon"),
        opened(options("--in-process", "-m", "x")),
    ):
        pass


def test_counts_are_whole_numbers_from_the_least_on():
    assert at_least(2)("3") == 3
    for text in ("1", "2.5", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number, 2 or more"):
            at_least(2)(text)
