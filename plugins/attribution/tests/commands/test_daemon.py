"""The commands against a real daemon: a killed run loses nothing that it had, and is gone on with."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from attribution_golden import tiny

from interpd.testing.daemon_process import DaemonProcess
from interpd_attribution import inseq_shim as inseq
from interpd_attribution.attributions import Attributions
from interpd_attribution.pecore import ContextAttribution

pytestmark = pytest.mark.ray

N_ROWS = 40


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A daemon with the plugin and a tiny model."""
    folder = tmp_path_factory.mktemp("daemon") / "tiny"
    tiny.save("tiny-gpt2", folder)
    arguments = ("interpd", "serve", "--port", "0", "--model", str(folder), "--plugin", "attribution")
    with DaemonProcess(*arguments) as daemon:
        yield daemon.address


def test_a_text_is_attributed_by_the_daemon(address, line, tmp_path):
    output = tmp_path / "out.json"
    ask = ("-i", "the cat", "-g", "the cat sat", "--step-scores", "probability", "-o", output)
    code, out, _ = line("attribute", "--address", address, *ask)
    assert code == 0
    assert "Target attribution" in out
    assert Attributions.load(output)[0].info["model_name"].endswith("tiny")


def test_an_output_is_attributed_to_its_context_by_the_daemon(address, line, tmp_path):
    output = tmp_path / "out.json"
    ask = ["attribute-context", "--address", address, "-o", output, "--hide", "--json"]
    ask += ["--input-context-text", "the cat", "--input-current-text", "the nurse was", "--max-new-tokens", "4"]
    code, out, err = line(*ask, "--attributed-fn", "contrast_prob_diff")
    assert (code, err) == (0, "")
    found = ContextAttribution.load(output)
    assert found.to_dict() == json.loads(out)
    assert len(found.cti_scores) == 4
    assert all(len(one.input_context_scores) == len(found.input_context_tokens) for one in found.cci_scores)


def test_a_script_of_inseq_asks_the_daemon(address):
    with inseq.load_model("tiny", "saliency", address=address) as model:
        out = model.attribute(["the cat", "the dog"], ["the cat sat", "the dog ran"], step_scores=["probability"])
        assert [one.dims for one in out] == [("d_model",), ("d_model",)]
        assert model.generate("the cat", max_new_tokens=2)[0].startswith("the cat")
        with pytest.warns(UserWarning, match="'lime' here leaves tokens out"):
            lime = model.attribute("the cat", "the cat sat", method="lime", n_samples=8, perturbations_per_eval=4)
        reagent = model.attribute("the cat", "the cat sat", method="reagent", max_probe_steps=3, num_probes=2)
        for one in (lime[0], reagent[0]):
            assert one.scores.shape == out[0].scores.shape[:2]
            assert np.isfinite(one.scores[:2]).all()
    with inseq.load_model(tiny.model("tiny-gpt2"), "saliency", tokenizer=tiny.tokenizer("tiny-gpt2")) as model:
        here = model.attribute("the cat", "the cat sat")
    np.testing.assert_allclose(out[0].scores, here[0].scores, 1e-4, 1e-6)


def test_a_killed_run_loses_nothing_that_it_had(address, line, tmp_path):
    texts, output = tmp_path / "texts.txt", tmp_path / "out.json"
    texts.write_text("\n".join(["the cat sat on the mat"] * N_ROWS))
    ask = ["attribute-dataset", "--address", address, "-d", str(texts), "-o", str(output), "--hide", "-bs", "1"]
    ask += ["--max-new-tokens", "4"]
    partial = tmp_path / "out.json.partial"
    command = subprocess.Popen([sys.executable, "-m", "interpd", *ask])
    while command.poll() is None and (not partial.exists() or len(partial.read_bytes().splitlines()) < 4):
        time.sleep(0.01)
    command.kill()
    command.wait()
    # a machine that is fast enough has finished: then everything is there already
    kept = dict(_rows(partial)) if partial.exists() else {}
    assert line(*ask, "--resume")[0] == 0
    found = {item.info["dataset_row"]: item.info["run_id"] for item in Attributions.load(output)}
    assert list(found) == list(range(N_ROWS))
    assert all(found[row] == run_id for row, run_id in kept.items())
    assert not partial.exists()


def _rows(partial):
    for text in partial.read_bytes().split(b"\n")[1:-1]:
        info = json.loads(text)["sequences"][0]["info"]
        yield info["dataset_row"], info["run_id"]
