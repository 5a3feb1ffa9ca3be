"""Commands that need no daemon: training and converting, in this process."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

from interpd_backpack.model import BackpackForCausalLM

TINY = ("--n-embd", 8, "--n-layer", 1, "--n-head", 2, "--n-positions", 8, "--num-senses", 2, "--rows", 2)


@pytest.mark.slow
def test_a_model_is_trained_and_gone_on_with(line, written, tmp_path):
    text, out = written("text.txt", "the cat sat on the mat. " * 20), tmp_path / "model"
    argv = ("train", text, "--out", out, *TINY, "--warm-up", 1, "--steps", 2, "--saved-every", 1)
    found = line(*argv, "--json")
    assert found.code == 0, found.err
    told = json.loads(found.out)
    assert told["parameters"] == json.loads((out / "training.json").read_text())["parameters"]
    assert "held-out loss" in found.err
    refused = line(*argv)
    assert (refused.code, refused.out) == (2, "")
    assert "--resume goes on with its training" in refused.err
    again = line(*argv, "--resume", "--json")
    assert json.loads(again.out)["held_out_loss"] == told["held_out_loss"]
    other = line(*argv, "--resume", "--learning-rate", 0.5)
    assert other.code == 3
    assert "is of another training" in other.err


def test_a_pickle_is_converted_when_its_checksum_is_right(line, tmp_path):
    model, tokenizer = tiny_backpack()
    folder, out = tmp_path / "published", tmp_path / "converted"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    model.config.to_json_file(folder / "config.json")
    tokenizer.save_pretrained(folder)
    source = folder / "pytorch_model.bin"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert line("convert", source, out, "--sha256", "0" * 64).code == 3
    assert not out.exists()
    found = line("convert", source, out, "--sha256", digest, "--output-scale", 0.25, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["sources"] == {"pytorch_model.bin": digest}
    assert digest in found.err
    made = BackpackForCausalLM.from_pretrained(out)
    assert made.config.sense_output_scale == 0.25
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(made(ids).logits, model(ids).logits / 4)


WRONG = [
    (("train", "nowhere.txt", "--out", "x"), "there is no file 'nowhere.txt'"),
    (("train", __file__, "--out", "x", "--n-embd", "10", "--n-head", "4"), "n_embd 10 is no multiple of n_head 4"),
    (("train", __file__, "--out", "x", "--resume"), "there is nothing in 'x' to go on from"),
    (("train", __file__, "--out", __file__), "is a file, expected a folder"),
    (("convert", "nowhere", "x"), "there is no file or folder 'nowhere'"),
    (("convert", __file__, __file__), "exists already: name a new folder"),
    (("convert", __file__, "x", "--sha256", "abc"), "--sha256 is 64 hex digits"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG)
def test_a_wrong_command_line_is_said_before_anything_runs(line, argv, said):
    found = line(*argv)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


@pytest.mark.slow
def test_declaring_the_commands_needs_no_torch():
    code = (
        "import sys, argparse, interpd_backpack.commands as c; c.declare(argparse.ArgumentParser());"
        "sys.exit(bool({'torch', 'transformers', 'grpc'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
