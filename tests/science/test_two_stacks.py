"""Encoder-decoder models against their layers written out in plain torch: reads, writes, gradients, company."""

from functools import cache

import numpy as np
import pytest
import torch
from two_stacks_written_out import logits as written_out

from interpd.graph.ir import Prompt, Ref
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write

FAMILIES = ("t5", "bart", "pegasus", "t5_gated", "marian", "mbart")
# the norms of T5 compute in single precision whatever the model's dtype
TOLERANCE = {"t5": 1e-5, "t5_gated": 1e-5}
PROMPTS = (
    Prompt(text="The cat sat", target_text="on the mat"),
    Prompt(text="Elena Marsh was born"),
    Prompt(text="Lisbon", target_ids=(5, 1, 7, 200)),
)


def lanes(*fast):
    return [pytest.param(name, marks=() if name in fast else [pytest.mark.slow]) for name in FAMILIES]


@cache
def bench_of(architecture):
    return Bench.tiny(architecture, dtype=torch.float64)


def sites_of(bench, layers=(1,)):
    """The canonical sites of some layers of both stacks, and those outside of all, in forward order."""
    manifest = bench.engine.describe()
    assert not [site for site in manifest.absent_sites if site.reason.startswith("self-test")]
    names = [site.name for site in manifest.sites.values() if site.canonical]
    return [name for name in names if "layers" not in name or int(name.split(".")[2]) in layers]


def ids(bench, prompt):
    tokens = bench.engine.tokenize([prompt])[0]
    return torch.tensor([tokens.ids]), torch.tensor([tokens.target.ids])


def meant(bench, prompt, at=lambda name, value: value):
    """(what each site means in a pass over ``prompt``, the logits)."""
    seen = {}

    def look(name, value):
        seen[name] = at(name, value)
        return seen[name]

    with torch.no_grad():
        return seen, written_out(bench.model, *ids(bench, prompt), look)


def agrees(architecture, found, expected, what="", factor=1):
    expected = torch.as_tensor(expected).detach().numpy()
    assert found.shape == expected.shape, what
    limit = factor * TOLERANCE.get(architecture, 1e-10) * np.abs(expected).max()
    assert np.abs(found - expected).max() <= limit, what


def noise(name, value):
    generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
    return torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.1 * value.abs().mean()


def reading(sites, prompt):
    return ask([read(site) for site in sites], {site: index for index, site in enumerate(sites)}, prompt)


def disturbing(bench, sites, prompt):
    """(a request that adds noise at all of these sites, the logits that it must get)."""
    clean, _ = meant(bench, prompt)
    nodes = []
    for site in sites:
        added = TensorData.from_numpy(noise(site, clean[site]).numpy())
        nodes += [read(site), call("torch.add", Ref(len(nodes)), added), write(Ref(len(nodes) + 1), site)]
    request = ask([*nodes, read("logits")], {"logits": len(nodes)}, prompt)
    _, expected = meant(bench, prompt, lambda name, value: value + noise(name, clean[name]) if name in sites else value)
    return request, expected


@pytest.mark.parametrize("architecture", lanes("t5", "pegasus"))
def test_sites_are_what_the_family_computes_and_writes_reach_the_logits(architecture):
    bench = bench_of(architecture)
    sites = sites_of(bench)
    writing, expected = disturbing(bench, [site for site in sites if site != "logits"], PROMPTS[0])
    # rows of three source lengths and three target lengths, all requests in one pass
    *readings, written = bench.run_all(*(reading(sites, prompt) for prompt in PROMPTS), writing)
    assert written.done.cost.shared_with == (4,)
    for prompt, result in zip(PROMPTS, readings, strict=True):
        seen, _ = meant(bench, prompt)
        for site in sites:
            agrees(architecture, result[site], seen[site], site)
    agrees(architecture, written["logits"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_each_site_of_each_layer_alone(architecture):
    bench = bench_of(architecture)
    for site in sites_of(bench, layers=range(3)):
        writing, expected = disturbing(bench, [site], PROMPTS[0])
        agrees(architecture, bench.run(writing)["logits"], expected, site)


def gradients(bench, prompt, sites):
    handles = {}

    def hold(name, value):
        if name not in sites:
            return value
        handles[name] = value if value.requires_grad else value.detach().requires_grad_()
        return handles[name]

    target = written_out(bench.model, *ids(bench, prompt), hold).tanh().sum()
    return torch.autograd.grad(target, [handles[site] for site in sites])


@pytest.mark.parametrize("architecture", lanes("pegasus"))
def test_gradients_reach_both_sides(architecture):
    bench, site_at = bench_of(architecture), {}
    sites = [site for site in sites_of(bench) if site != "logits"]
    nodes = [*(read(site) for site in sites), read("logits"), call("torch.tanh", Ref(len(sites)))]
    nodes += [call("torch.sum", Ref(len(sites) + 1))]
    target = len(nodes) - 1
    for index, site in enumerate(sites):
        site_at[site] = len(nodes)
        nodes.append(call("site.grad", Ref(target), Ref(index)))
    requests = [ask(nodes, site_at, prompt) for prompt in PROMPTS[:2]]
    for prompt, result in zip(PROMPTS, bench.run_all(*requests), strict=False):
        for site, expected in zip(sites, gradients(bench, prompt, sites), strict=True):
            agrees(architecture, result[site], expected, site, factor=10)


def test_a_graph_without_writes_gives_the_logits_of_the_model_bit_for_bit():
    bench = Bench.tiny("t5")
    source, target = ids(bench, PROMPTS[0])
    mask = torch.ones_like(source)
    own = bench.model(input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits
    assert np.array_equal(bench.run(reading(["logits"], PROMPTS[0]))["logits"], own.detach().numpy())


def test_a_read_in_the_encoder_ends_the_pass_before_the_decoder():
    bench, ran = Bench.tiny("bart"), []
    handle = bench.model.get_decoder().register_forward_hook(lambda *_: ran.append(1))
    try:
        cost = bench.run(reading(["encoder.layers.1.resid_post"], PROMPTS[0])).done.cost
    finally:
        handle.remove()
    n_source = ids(bench, PROMPTS[0])[0].shape[1]
    assert (ran, cost.n_layers_run, cost.n_tokens) == ([], 2, n_source)
    cost = bench.run(reading(["logits"], PROMPTS[0])).done.cost
    assert (cost.n_layers_run, cost.n_tokens) == (5, sum(part.shape[1] for part in ids(bench, PROMPTS[0])))


def test_what_one_prompt_encodes_is_decoded_in_another():
    """Patching every position of the encoder's output makes the decoder see the other source."""
    bench = bench_of("pegasus")
    sources = (Prompt(text="Lisbon is it", target_text="a"), Prompt(text="Lisbon on it", target_text="a"))
    assert len({ids(bench, prompt)[0].shape for prompt in sources}) == 1
    nodes = [read("encoder.ln_final"), write(Ref(0), "encoder.ln_final", invoke=1), read("logits", invoke=1)]
    patched = bench.run(ask(nodes, {"logits": 2}, *sources))["logits"]
    clean, other = (bench.run(reading(["logits"], prompt))["logits"] for prompt in sources)
    assert np.abs(patched - clean).max() < 1e-10
    assert np.abs(patched - other).max() > 1e-3


def test_a_value_of_the_encoder_is_written_into_the_decoder():
    bench, (prompt, *_) = bench_of("pegasus"), PROMPTS
    site = "decoder.layers.0.resid_pre"
    nodes = [read("encoder.ln_final", positions=(0,)), write(Ref(0), site), read("logits")]
    found = bench.run(ask(nodes, {"logits": 2}, prompt))["logits"]
    clean, _ = meant(bench, prompt)
    first = clean["encoder.ln_final"][:, :1]
    _, expected = meant(bench, prompt, lambda name, value: first.expand_as(value) if name == site else value)
    agrees("pegasus", found, expected)


def test_positions_and_token_ids_are_those_of_their_side():
    bench, (prompt, *_) = bench_of("pegasus"), PROMPTS
    nodes = [
        read("encoder.embed", positions=(0, -1)),
        read("decoder.layers.0.cross_attn.pattern", positions=(-1,)),
        call("tokens.ids", side="source"),
        call("tokens.ids", side="target"),
    ]
    result = bench.run(ask(nodes, {name: index for index, name in enumerate("epst")}, prompt))
    seen, _ = meant(bench, prompt)
    agrees("pegasus", result["e"], seen["encoder.embed"][:, [0, -1]])
    agrees("pegasus", result["p"], seen["decoder.layers.0.cross_attn.pattern"][:, :, -1:])
    source, target = ids(bench, prompt)
    assert (result["s"].tolist(), result["t"].tolist()) == (source.tolist(), target.tolist())


def test_the_lens_of_a_decoder_ends_in_its_logits():
    bench, (prompt, *_) = bench_of("pegasus"), PROMPTS
    nodes = [
        read("decoder.layers.2.resid_post"),
        call("module.call", Ref(0), module="model.decoder.layer_norm"),
        call("module.call", Ref(1), module="lm_head"),
        call("param.read", name="final_logits_bias"),
        call("torch.add", Ref(2), Ref(3)),
    ]
    _, expected = meant(bench, prompt)
    agrees("pegasus", bench.run(ask(nodes, {"lens": 4}, prompt))["lens"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*FAMILIES, "blenderbot"])
def test_raw_paths_in_company_are_those_of_a_prompt_alone(architecture):
    bench = bench_of(architecture)
    sites = [
        site.name
        for site in bench.engine.describe().sites.values()
        if not site.canonical and site.shares_pass and site.type.dtype.startswith("float")
    ]
    requests = [reading(sites, prompt) for prompt in PROMPTS]
    for request, together in zip(requests, bench.run_all(*requests), strict=True):
        alone = bench.run(request)
        for site in sites:
            assert np.abs(together[site] - alone[site]).max() <= 1e-5 * np.abs(alone[site]).max(), site


@pytest.mark.slow
def test_places_without_rows_run_alone():
    bench = bench_of("t5")
    site = "decoder.block.1.layer.0.output.1"
    outcomes = bench.run_all(*(reading([site], prompt) for prompt in PROMPTS))
    for prompt, outcome in zip(PROMPTS, outcomes, strict=True):
        n_pos = ids(bench, prompt)[1].shape[1]
        assert outcome[site].shape == (1, 4, n_pos, n_pos)
        assert outcome.done.cost.shared_with == (1,)
