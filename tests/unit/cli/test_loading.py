"""What a terminal shows while a model loads."""

import threading

import interpd_client
import pytest
from interpd_client.testing import FakeTransport, fake_manifest

from interpd.cli import loading
from interpd.cli.loading import progress_shown
from interpd.errors import WorkerLost
from interpd.scheduler.interface import ModelStatus


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(loading, "LOOK_S", 0.01)
    return interpd_client.Client(FakeTransport(fake_manifest()))


def test_each_change_of_what_a_load_does_is_written_once(client, monkeypatch, capsys):
    texts, all_asked = ["hashing a", "hashing a", "loading weights: 1 of 2 tensors"], threading.Event()

    def models():
        if not texts:
            all_asked.set()
            return ()
        return (ModelStatus("big", "loading", texts.pop(0)), ModelStatus("facts", "ready", "said before"))

    monkeypatch.setattr(interpd_client.Client, "models", lambda self: models())
    with progress_shown(client, always=True):
        assert all_asked.wait(30)
    assert capsys.readouterr().err == "big: hashing a\nbig: loading weights: 1 of 2 tensors\n"


def test_a_daemon_that_is_gone_is_told_by_the_command_itself(client, monkeypatch, capsys):
    asked = threading.Event()

    def models(self):
        asked.set()
        raise WorkerLost("gone")

    monkeypatch.setattr(interpd_client.Client, "models", models)
    with progress_shown(client, always=True):
        assert asked.wait(30)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_nothing_is_asked(client, monkeypatch):
    monkeypatch.setattr(interpd_client.Client, "models", lambda self: pytest.fail("asked"))
    with progress_shown(client):
        pass
