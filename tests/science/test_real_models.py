"""The same claims on small trained models, where the folder with them is at hand."""

import numpy as np
import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import make_resident
from interpd.graph.ir import Generation, Ref
from interpd.graph.types import TensorData
from interpd.plugin.registry import load_registry
from interpd.testing.bench import Bench, ask, call, read, write
from interpd.worker.loading import load_model

PROMPTS = ("Once upon a time", "The war lasted from the year 1732 to the year 17", "Lily")


@pytest.fixture(scope="module", params=["stories260K", "capp-gpt2"])
def real(request, shared):
    loaded = load_model(ModelSpec(str(shared / "models" / request.param), dtype="float32", device="cpu"))
    registry = load_registry([])
    return Bench(NnsightEngine(make_resident(loaded, registry), registry), loaded.model)


def test_logits_are_the_models_own_bit_for_bit(real):
    result = real.run(ask([read("logits")], {"logits": 0}, PROMPTS[0]))
    assert np.array_equal(result["logits"], real.model(real.ids(PROMPTS[0])).logits.detach())


def test_every_canonical_site_passed_its_self_test(real):
    assert not [site for site in real.engine.describe().absent_sites if "self-test" in site.reason]


def test_greedy_continuations_of_all_lengths_are_those_of_transformers(real):
    requests = [ask([], {}, prompt, generation=Generation(12, ignore_eos=True)) for prompt in PROMPTS]
    together = ask([], {}, *PROMPTS, generation=Generation(12, ignore_eos=True))
    *alone, shared = real.run_all(*requests, together)
    for invoke, (prompt, result) in enumerate(zip(PROMPTS, alone, strict=True)):
        ids = real.ids(prompt)
        settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        expected = real.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :]
        assert list(result.done.generated[0].token_ids) == expected.tolist()
        assert shared.done.generated[invoke].token_ids == result.done.generated[0].token_ids


def test_different_graphs_share_a_pass_and_keep_their_numbers(real):
    site = "layers.0.resid_post"
    requests = [
        ask([read("logits", positions=(-1,)), call("torch.softmax", Ref(0), dim=-1)], {"out": 1}, PROMPTS[0]),
        ask([read(site), call("torch.mul", Ref(0), 2.0), write(Ref(1), site), read("logits")], {"out": 3}, PROMPTS[0]),
        ask([read("layers.1.attn.z"), call("torch.mean", Ref(0), dim=(1,))], {"out": 1}, PROMPTS[0]),
    ]
    for request, shared in zip(requests, real.run_all(*requests), strict=True):
        assert shared.done.cost.shared_with == (3,)
        alone = real.run(request)["out"]
        assert np.abs(shared["out"] - alone).max() <= 1e-5 * np.abs(alone).max()


def test_a_gradient_predicts_a_small_change(real):
    site = "layers.0.resid_post"
    nodes = [read(site), read("logits", positions=(-1,)), call("tensor.getitem", Ref(1), (0, 0, 5))]
    result = real.run(ask([*nodes, call("site.grad", Ref(2), Ref(0))], {"h": 0, "t": 2, "g": 3}, PROMPTS[0]))
    step = 1e-3 * result["g"] / np.linalg.norm(result["g"])
    moved = [write(TensorData.from_numpy(result["h"] + step), site), *nodes[1:]]
    moved[2] = call("tensor.getitem", Ref(1), (0, 0, 5))
    change = float(real.run(ask(moved, {"t": 2}, PROMPTS[0]))["t"]) - float(result["t"])
    assert change == pytest.approx(1e-3 * np.linalg.norm(result["g"]), rel=0.05)


def test_words_that_the_model_never_saw_are_told_with_the_result():
    loaded = load_model(ModelSpec("facts"))
    registry = load_registry([])
    facts = Bench(NnsightEngine(make_resident(loaded, registry), registry), loaded.model)
    known, unknown = (ask([read("logits")], {"x": 0}, text) for text in ("Elena Marsh was", "Elena Mash was"))
    assert facts.run(known).done.warnings == ()
    assert facts.run(unknown).done.warnings == ("prompt 0: the tokenizer does not know Mash",)
