"""Every family against its layers written out in plain torch: reads, writes, gradients, decode steps, company."""

from functools import cache

import numpy as np
import pytest
import torch
from written_out import logits as written_out

from interpd.config import ModelSpec
from interpd.engine.resident import make_resident
from interpd.graph.ir import Generation, Ref, Steps
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write
from interpd.testing.tiny_models import ARCHITECTURES, save_tiny
from interpd.worker.loading import load_model

FAMILIES = tuple(name for name in ARCHITECTURES if name != "granite")
# the default lane knows the first two from everywhere else, the rest from their close relatives
ELSEWHERE = (
    "gpt2",
    "llama",
    "qwen2",
    "phi",
    "phi3_long",
    "gemma",
    "gemma3_multimodal",
    "olmo2",
    "stablelm",
    "stablelm_parallel",
    "cohere",
)
# norms, rotary embeddings and the softmax of most families compute in single precision whatever the model's dtype
TOLERANCE = 1e-5
PROMPTS = ("The cat sat", "Elena Marsh", "The cat sat on")


def _lane(architecture):
    return [pytest.mark.slow] if architecture in ELSEWHERE else []


@cache
def bench_of(architecture):
    return Bench.tiny(architecture, dtype=torch.float64)


def sites_of(bench, layers=(1,)):
    """The canonical sites of some layers, and those outside of all, in forward order."""
    manifest = bench.engine.describe()
    assert not [site for site in manifest.absent_sites if site.reason.startswith("self-test")]
    sites = [site for site in manifest.sites.values() if site.canonical]
    return [site.name for site in sites if "layers" not in site.name or int(site.name.split(".")[1]) in layers]


def meant(bench, prompt, at=lambda name, value: value):
    """(what each site means in a pass over ``prompt``, the logits)."""
    seen = {}

    def look(name, value):
        seen[name] = at(name, value)
        return seen[name]

    with torch.no_grad():
        return seen, written_out(bench.model, bench.ids(prompt), look)


def agrees(found, expected, what="", tolerance=TOLERANCE):
    expected = torch.as_tensor(expected).detach().numpy()
    assert found.shape == expected.shape, what
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), what


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


@pytest.mark.parametrize("architecture", [pytest.param(name, marks=_lane(name)) for name in FAMILIES])
def test_sites_are_what_the_family_computes_and_writes_reach_the_logits(architecture):
    bench = bench_of(architecture)
    sites = sites_of(bench)
    writing, expected = disturbing(bench, [site for site in sites if site != "logits"], PROMPTS[0])
    # rows of three lengths, all requests in one pass
    *readings, written = bench.run_all(*(reading(sites, prompt) for prompt in PROMPTS), writing)
    assert written.done.cost.shared_with == (4,)
    for prompt, result in zip(PROMPTS, readings, strict=True):
        seen, _ = meant(bench, prompt)
        for site in sites:
            agrees(result[site], seen[site], site)
    agrees(written["logits"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_each_site_of_each_layer_alone(architecture):
    bench = bench_of(architecture)
    for site in sites_of(bench, layers=range(3)):
        writing, expected = disturbing(bench, [site], PROMPTS[1])
        agrees(bench.run(writing)["logits"], expected, site)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_gradients_are_those_of_the_family_written_out(architecture):
    bench, site_at = bench_of(architecture), {}
    sites = [site for site in sites_of(bench) if site != "logits"]
    nodes = [*(read(site) for site in sites), read("logits"), call("torch.tanh", Ref(len(sites)))]
    nodes += [call("torch.sum", Ref(len(sites) + 1))]
    target = len(nodes) - 1
    for index, site in enumerate(sites):
        site_at[site] = len(nodes)
        nodes.append(call("site.grad", Ref(target), Ref(index)))
    for prompt, result in zip(PROMPTS, bench.run_all(*(ask(nodes, site_at, p) for p in PROMPTS)), strict=True):
        for site, expected in zip(sites, _gradients(bench, prompt, sites), strict=True):
            agrees(result[site], expected, site, 10 * TOLERANCE)


def _gradients(bench, prompt, sites):
    handles = {}

    def hold(name, value):
        if name not in sites:
            return value
        handles[name] = value if value.requires_grad else value.detach().requires_grad_()
        return handles[name]

    target = written_out(bench.model, bench.ids(prompt), hold).tanh().sum()
    return torch.autograd.grad(target, [handles[site] for site in sites])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_checkpoint_in_half_precision_has_the_same_sites(architecture, tmp_path):
    spec = ModelSpec(str(save_tiny(tmp_path / architecture, architecture)), dtype="bfloat16")
    resident = make_resident(load_model(spec))
    assert resident.info.dtype == "bfloat16"
    assert not [site for site in resident.absent_sites if site.reason.startswith("self-test")]
    here = {name for name, binding in resident.bindings.items() if binding.site.canonical}
    assert here == set(sites_of(bench_of(architecture), layers=range(3)))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*FAMILIES, "granite"])
def test_raw_paths_in_company_are_those_of_a_prompt_alone(architecture):
    bench = bench_of(architecture)
    sites = [
        site.name
        for site in bench.engine.describe().sites.values()
        if not site.canonical and site.shares_pass and site.layer in (1, 3) and site.type.dtype.startswith("float")
    ]
    requests = [reading(sites, prompt) for prompt in PROMPTS]
    for request, together in zip(requests, bench.run_all(*requests), strict=True):
        alone = bench.run(request)
        for site in sites:
            agrees(together[site], alone[site], site)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_steered_decode_steps_in_company_are_those_of_one_long_pass(architecture):
    """Windows of 3 are shorter than the prompts; the last step reads and steers behind a cache."""
    bench, n_new = bench_of(architecture), 5
    vector = torch.linspace(-1, 1, 24, dtype=torch.float64)
    steered, late = "layers.0.resid_post", Steps(n_new - 1, n_new)
    sites = sites_of(bench, layers=(1, 2))
    always = Steps(0, None)
    nodes = [
        read(steered, steps=always),
        call("torch.add", Ref(0), TensorData.from_numpy(vector.numpy())),
        write(Ref(1), steered, steps=always),
        *(read(site, steps=late) for site in sites),
    ]
    outputs = {site: index for index, site in enumerate(sites, start=3)}
    settings = Generation(max_new_tokens=n_new, ignore_eos=True)
    requests = [ask(nodes, outputs, prompt, generation=settings) for prompt in PROMPTS]
    for prompt, result in zip(PROMPTS, bench.run_all(*requests), strict=True):
        ids = torch.cat([bench.ids(prompt), torch.tensor([result.done.generated[0].token_ids])], 1)
        seen = _long_pass(bench, ids[:, :-1], steered, vector)
        assert ids[0, -n_new:].tolist() == seen["logits"][0, -n_new:].argmax(-1).tolist()
        for site in sites:
            agrees(result[site], _at_the_last(site, seen[site], result[site].shape), site)


def test_rows_share_no_pass_in_which_the_longest_turns_the_others():
    """LongRoPE: beyond 12 positions all of a pass are turned by other factors."""
    bench = bench_of("phi3_long")
    short, long = PROMPTS[0], "Once upon a time, there was a little girl"
    sites = sites_of(bench)
    prompts = (short, long, short)
    for prompt, result in zip(prompts, bench.run_all(*(reading(sites, p) for p in prompts)), strict=True):
        assert result.done.cost.shared_with == ((1,) if prompt is long else (2,))
        seen, _ = meant(bench, prompt)
        for site in sites:
            agrees(result[site], seen[site], site)


@pytest.mark.parametrize(
    ("prompts", "options", "reason"),
    [
        ((PROMPTS[0],), {"generation": Generation(max_new_tokens=8)}, "generate at most 7 tokens"),
        ((PROMPTS[0], "Once upon a time, there was"), {}, "give each prompt a request of its own"),
    ],
)
def test_what_would_mix_the_two_ways_of_turning_is_refused(prompts, options, reason):
    nodes = [read("logits", invoke=index, positions=(-1,)) for index in range(len(prompts))]
    outputs = {f"logits{index}": index for index in range(len(prompts))}
    assert reason in str(bench_of("phi3_long").run(ask(nodes, outputs, *prompts, **options)).error)


def _long_pass(bench, ids, steered, vector):
    seen = {}

    def look(name, value):
        seen[name] = value + vector if name == steered else value
        return seen[name]

    with torch.no_grad():
        written_out(bench.model, ids, look)
    return seen


def _at_the_last(site, value, shape):
    """What a decode step sees of a long pass: its own position, and the keys that a window keeps."""
    name = site.rpartition(".")[2]
    if name == "k_rot":
        return value[:, -shape[1] :]
    if name in ("scores", "pattern"):
        return value[:, :, -1:, -shape[3] :]
    return value[:, -1:]
