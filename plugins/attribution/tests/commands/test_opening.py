"""Which model a command works on: one of a daemon, by its name or its source, or one that is loaded here."""

import argparse
import json

import pytest
from attribution_golden import tiny

import interpd_client
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_attribution.attributions import Attributions
from interpd_attribution.commands.arguments import add_model
from interpd_attribution.commands.opening import opened
from interpd_attribution.commands.pretrained import pretrained
from interpd_client.testing import FakeTransport, fake_manifest


@pytest.fixture
def daemon(monkeypatch):
    """A fake service, which commands reach at any address."""
    transport = FakeTransport(fake_manifest("small"))
    monkeypatch.setattr(interpd_client, "connect", lambda address, **options: interpd_client.Client(transport))
    return transport


def options(*words):
    parser = argparse.ArgumentParser()
    parser.set_defaults(address="localhost:1", timeout=None, json=False)
    add_model(parser)
    return parser.parse_args(words)


def test_a_model_is_known_by_its_name_by_its_source_and_as_the_only_one(daemon):
    source = daemon.manifests["small"].model.source
    for words in (["-m", "small"], ["-m", source], []):
        with opened(options(*words)) as model:
            assert model.name == "small"
    assert daemon.is_closed


def test_a_model_that_is_not_there_can_be_loaded_here(daemon, line):
    code, _, err = line("attribute", "-m", "large", "-i", "x")
    assert code == 3
    assert "no model 'large'" in err
    assert "-m MODEL --in-process loads one into this process instead" in err


def test_without_a_daemon_a_model_can_be_loaded_here(line, unused_tcp_port):
    code, _, err = line("attribute", "-i", "x", "--address", f"localhost:{unused_tcp_port}")
    assert code == 4
    assert "-m MODEL --in-process loads one into this process instead" in err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in the usual layout."""
    found = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save("tiny-gpt2", found)
    return found


@pytest.mark.slow
def test_a_folder_is_loaded_into_this_process(folder, line, gpt2, tmp_path):
    output = tmp_path / "out.json"
    code, _, err = line(
        "attribute", "-m", folder, "--in-process", "-i", "the cat", "-g", " sat", "--hide", "-o", output
    )
    assert (code, err) == (0, "")
    (found,) = Attributions.load(output)
    expected = gpt2.attribute("the cat", " sat")
    assert found.scores.tolist()[0] == pytest.approx(expected.scores.tolist()[0], rel=1e-4)
    assert found.info["model_name"] == str(folder)


@pytest.mark.slow
def test_arguments_of_loading_are_those_of_transformers(folder, line):
    kwargs = ("--tokenizer-kwargs", json.dumps({"unk_token": "</s>"}), "--model-kwargs", '{"dtype": "float32"}')
    where = ("-m", folder, "--in-process", "--device", "cpu")
    code, out, _ = line("attribute", *where, *kwargs, "-i", "the", "-g", " cat", "--json")
    assert code == 0
    assert json.loads(out)["info"]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("kwargs", "error", "said"),
    [
        ({"trust_remote_code": True}, InvalidRequest, "code that comes with a model is never run"),
        ({"load_in_8bit": True}, FeatureUnsupported, "load_in_8bit: attribution of quantised models is not tested"),
        ({"num_layers": 3}, InvalidRequest, "cannot be loaded with these arguments: .*num_layers"),
    ],
)
def test_arguments_of_loading_that_cannot_be_are_refused(folder, kwargs, error, said):
    with pytest.raises(error, match=said):
        pretrained(str(folder), kwargs, {})


def test_a_model_with_arguments_of_its_own_is_where_it_is_wanted(folder):
    model, _ = pretrained(str(folder), {}, {}, device="cpu")
    assert model.device.type == "cpu"
    with pytest.raises(InvalidRequest, match="device 'nowhere' cannot be had"):
        pretrained(str(folder), {}, {}, device="nowhere")


def test_answers_begin_with_the_token_of_their_language(folder):
    model, tokenizer = pretrained(str(folder), {}, {"tgt_lang": "<s>"})
    assert model.generation_config.forced_bos_token_id == tokenizer.get_vocab()["<s>"]
    with pytest.raises(InvalidRequest, match="the tokenizer has no language 'xx'"):
        pretrained(str(folder), {}, {"tgt_lang": "xx"})


def test_a_folder_that_is_none_is_said(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be loaded with these arguments"):
        pretrained(str(tmp_path), {"dtype": "float32"}, {})
