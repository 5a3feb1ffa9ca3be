"""The commands against a real daemon: an edit that one of them made is in force in another."""

import json

import pytest
from backpack_tests.tiny import tiny_backpack

from interpd.testing.daemon_process import DaemonProcess

pytestmark = pytest.mark.ray


def test_an_edit_is_made_and_used_with_a_daemon(line, tmp_path):
    model, tokenizer = tiny_backpack()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    arguments = ("interpd", "serve", "--port", "0", "--model", str(tmp_path / "tiny"), "--plugin", "backpack")
    with DaemonProcess(*arguments) as daemon:
        at = ("--address", daemon.address)
        made = line("edit", "new", tmp_path / "loud", "--scale", "nurse", "all", 40, *at)
        assert made.code == 0, made.err
        argv = ("The nurse said", "--edit", tmp_path / "loud", "--max-new-tokens", 4, "--ignore-eos", "--json")
        found = line("generate", *argv, *at, "--model", "tiny")
        assert found.code == 0, found.err
        document = json.loads(found.out)
        assert document["names"] == ["unedited", "loud"]
        plain, loud = (one["token_ids"] for one in document["continuations"][0])
        assert len(plain) == len(loud) == 4
        assert plain != loud
        other = line("senses", "nurse", "--model", "large", *at)
        assert other.code == 3
        assert "-m MODEL --in-process loads one into this process instead" in other.err
