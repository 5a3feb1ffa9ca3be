"""Every command against a real daemon with two real models."""

import json
import subprocess
import sys

import numpy as np
import pytest

from interpd.graph.ir import Graph, Node, Ref
from interpd.testing.daemon_process import DaemonProcess
from interpd.wire.files import graph_to_json

pytestmark = pytest.mark.ray

PROMPT = "Elena Marsh was born in"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    from interpd.testing.tiny_models import save_tiny

    tiny = save_tiny(tmp_path_factory.mktemp("tiny"), "gpt2")
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts", "--model", f"{tiny}=tiny") as daemon:
        yield daemon


@pytest.fixture
def run(daemon):
    def run(*arguments, code=0):
        command = [sys.executable, "-m", "interpd", *arguments, "--address", daemon.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    return run


@pytest.fixture
def graph_file(tmp_path):
    nodes = (
        Node("site.read", params={"site": "layers.5.resid_post"}),
        Node("site.read", params={"site": "logits", "positions": (-1,)}),
        Node("torch.argmax", (Ref(1),), {"dim": -1}),
    )
    file = tmp_path / "graph.json"
    file.write_text(graph_to_json(Graph(nodes, {"hidden": Ref(0), "best": Ref(2)})))
    return str(file)


def test_models_are_listed(run):
    assert "LlamaForCausalLM" in run("models")
    assert {model["name"]: model["state"] for model in json.loads(run("models", "--json"))} == {
        "facts": "ready",
        "tiny": "ready",
    }


def test_sites_are_listed_in_forward_order(run):
    names = [site["name"] for site in json.loads(run("sites", "facts", "--match", "layers.0.*", "--json"))]
    assert names[0] == "layers.0.resid_pre"
    assert names[-1] == "layers.0.resid_post"
    assert "layers.0.mlp.pre" in run("sites", "facts", "--absent")
    assert "model.layers.0.mlp.output" in run("sites", "facts", "--raw")


def test_operations_are_listed_with_their_parameters(run):
    assert "torch.topk(input, *, k, dim=-1" in run("ops", "--match", "torch.topk", "--model", "facts")
    assert "say which model" in run("ops", code=3)
    assert "nothing matches 'torch.tpk'; nearest is 'torch.topk'" in run(
        "ops", "--match", "torch.tpk", "--model", "facts", code=3
    )


def test_plugins_and_status_are_shown(run):
    assert json.loads(run("plugins", "--json")).keys() == {"facts", "tiny"}
    assert "serving for" in run("status")


def test_a_graph_file_is_checked(run, graph_file, tmp_path):
    assert "can run: 1 pass of 6 layers, 6 tokens" in run("check", graph_file, "--model", "facts", "--prompt", PROMPT)
    answer = run("check", graph_file, "--model", "tiny", "--prompt", PROMPT, "--json", code=3)
    assert json.loads(answer)["violations"][0]["code"] == "UNKNOWN_SITE"


def test_a_graph_file_runs(run, graph_file, tmp_path):
    out = str(tmp_path / "results.npz")
    assert "hidden" in run("run", graph_file, "--model", "facts", "--prompt", PROMPT, "--out", out)
    with np.load(out) as arrays:
        assert arrays["hidden"].shape == (1, 6, 128)
        assert arrays["best"].shape == (1, 1)


def test_a_folder_that_does_not_exist_is_found_before_the_run(run, graph_file, tmp_path):
    out = str(tmp_path / "nowhere" / "results.npz")
    assert "nothing was run" in run("run", graph_file, "--model", "facts", "--prompt", PROMPT, "--out", out, code=2)


def test_a_prompt_is_continued(run):
    assert run("generate", "facts", PROMPT, "--max-new-tokens", "2") == f"{PROMPT} Mirefield.\n"
    answer = json.loads(run("generate", "facts", PROMPT, "--max-new-tokens", "2", "--json"))
    assert (answer["text"], answer["stop_reason"]) == (" Mirefield.", "length")


def test_a_model_is_loaded_and_unloaded(run, tmp_path):
    from interpd.testing.tiny_models import save_tiny

    tiny = save_tiny(tmp_path / "more", "llama")
    assert "LlamaForCausalLM" in run("load", f"{tiny}=more")
    run("unload", "more")
    assert "no model 'more'" in run("sites", "more", code=3)


def test_an_encoder_decoder_model_is_served_with_targets(run, daemon, tmp_path):
    import interpd_client

    from interpd.testing.tiny_models import save_tiny

    assert "BartForConditionalGeneration" in run("load", f"{save_tiny(tmp_path / 'bart', 'bart')}=bart")
    layers = {line.split()[0]: line for line in run("models").splitlines() if line.strip()}
    assert " 2+3 " in layers["bart"]
    assert "in a generation at step 0 only" in run("sites", "bart", "--match", "encoder.embed")
    answer = json.loads(run("generate", "bart", "The cat", "--target", "sat", "--max-new-tokens", "3", "--json"))
    assert len(answer["token_ids"]) == 3
    reads = [Node("site.read", params={"site": name}) for name in ("encoder.embed", "decoder.embed")]
    file, out = tmp_path / "sides.json", tmp_path / "sides.npz"
    file.write_text(graph_to_json(Graph(tuple(reads), {"enc": Ref(0), "dec": Ref(1)})))
    asked = ("run", str(file), "--model", "bart", "--prompt", "The cat", "--target", "sat on the mat")
    run(*asked, "--out", str(out))
    assert "give one for each, or none" in run(*asked, "--target", "twice", code=2)
    with interpd_client.connect(daemon.address) as client, np.load(out) as arrays:
        model = client.model("bart")
        with model.trace("The cat", target="sat on the mat") as t:
            t.save(logits=t.logits)
        (tokens,) = t.result.tokens
        assert tokens == model.tokenize("The cat", target="sat on the mat")
        assert arrays["enc"].shape[1] == len(tokens.ids)
        assert arrays["dec"].shape[1] == len(tokens.target.ids) == t.result["logits"].shape[1]
        assert model.generate("The cat", target="sat", max_new_tokens=3).run().token_ids == tuple(answer["token_ids"])
    assert "no encoder-decoder model" in run("generate", "facts", PROMPT, "--target", "x", code=3)
    run("unload", "bart")


def test_the_doctor_finds_the_daemon(run):
    findings = {finding["what"]: finding for finding in json.loads(run("doctor", "--json"))}
    assert findings["daemon"]["state"] == "ok"
    assert "passed the self-test" in findings["bundled model"]["detail"]


def test_files_of_the_folder_where_it_starts_do_not_pass_for_packages(tmp_path, monkeypatch):
    (tmp_path / "nnsight.py").write_text("raise SystemExit('taken for the package')")
    monkeypatch.chdir(tmp_path)
    # as the installed command starts, which does not put the folder on the path itself
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts") as daemon:
        command = [sys.executable, "-m", "interpd", "models", "--json", "--address", daemon.address]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["state"] == "ready"
