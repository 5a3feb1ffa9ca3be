"""Senses beside another model have its sites, and their own."""

import numpy as np
import pytest
import torch

import interpd_backpack.worker
from interpd.graph.ir import Generation, Ref
from interpd.testing.bench import Bench, ask, call, read, write
from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_models import TinyModel, tiny_model
from interpd_backpack.model import retrofit

PROMPT = "The cat sat"

pytestmark = pytest.mark.slow


def bench_of(architecture):
    tiny = tiny_model(architecture)
    model = retrofit(tiny.model.double(), num_senses=5).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.backpack.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    plugins = {"backpack": interpd_backpack.worker}
    return Bench(InProcessModel(plugins, TinyModel(model, tiny.tokenizer, None)).engine, model)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma", "opt"])
def test_all_sites_of_the_backbone_and_of_the_senses_are_there(architecture):
    manifest = bench_of(architecture).engine.describe()
    own = Bench.tiny(architecture, dtype=torch.float64).engine.describe()
    names = {name for name, site in own.sites.items() if site.canonical}
    found = {name for name, site in manifest.sites.items() if site.canonical}
    assert found == names | {"senses", "sense_weights", "sense_mix"}
    assert manifest.model.sizes["sense"] == 5


def test_rows_join_before_the_senses_and_variants_share_a_prefill():
    bench = bench_of("llama")
    nodes = [read("senses"), call("torch.mul", Ref(0), 3.0), write(Ref(1), "senses")]
    logits = [read("logits", positions=(-1,)), read("logits", invoke=1, positions=(-1,))]
    seen, block = [], bench.model.backbone.layers[0].input_layernorm
    handle = block.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    generation = Generation(3, ignore_eos=True)
    both = bench.run(ask([*nodes, *logits], {"edited": 3, "plain": 4}, PROMPT, PROMPT, generation=generation))
    handle.remove()
    assert seen == [1, 2, 2]
    for name, own in (("edited", [*nodes, logits[0]]), ("plain", logits[:1])):
        alone = bench.run(ask(own, {"x": len(own) - 1}, PROMPT, generation=generation))["x"]
        assert np.abs(both[name] - alone).max() <= 1e-10 * np.abs(alone).max()
