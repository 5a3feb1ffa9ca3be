"""Noisy inputs and redrawn weights, against models that really are so."""

import copy
import zlib

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_attribution.evaluation.changes import Stage, stages, with_noisy_inputs, with_redrawn_weights
from interpd_attribution.worker.evaluation.changes import noisy, redrawn

RADIUS = 0.3
ARCHITECTURES = ["gpt2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "t5", "bart"))]
SIGNED = {"reduce": "sum"}


def of_world(world, **changes):
    """The world of another model, or of other vectors."""
    other = copy.copy(world)
    for name, value in changes.items():
        object.__setattr__(other, name, value)
    return other


def with_weights(world, parts, seed):
    """A copy of the bare model whose modules have the weights that the writes say."""
    model = copy.deepcopy(world.model)
    for path in (path for part in parts for path in part.modules):
        module = model.get_submodule(path)
        weight = redrawn(module.weight.detach(), seed=zlib.crc32(f"{seed} {path}".encode()))
        module.weight = torch.nn.Parameter(weight)  # not in place: the head may share the embedding's
    return of_world(world, model=model)


def expected(world):
    """Gradient times input, position by step."""
    inputs = torch.cat(world.embedded()).numpy()
    return (world.gradients(lambda logits, token: logits.softmax(-1)[token]) * inputs).sum(-1).T


@pytest.mark.parametrize("world", ARCHITECTURES, indirect=True)
def test_redrawn_weights_are_those_of_a_model_that_has_them(world):
    manifest = world.client_model.manifest
    before = {name: weight.clone() for name, weight in world.model.state_dict().items()}
    parts = stages(manifest)
    for chosen in (parts[:2], parts):
        with world.prompt() as t:
            with_redrawn_weights(manifest, chosen, seed=3)(t)
            t.save(out=t.op("attribution.input_x_gradient", **SIGNED).scores, logits=t.logits)
        other = with_weights(world, chosen, seed=3)
        logits = other.logits(*other.embedded()).detach().numpy()
        np.testing.assert_allclose(t.result["logits"][0], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(t.result["out"], expected(other), rtol=1e-3, atol=1e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in world.model.state_dict().items())


def test_the_next_request_finds_the_model_as_it_was(gpt2):
    manifest = gpt2.client_model.manifest
    found = []
    for record in (lambda t: None, with_redrawn_weights(manifest, stages(manifest), seed=0), lambda t: None):
        with gpt2.prompt() as t:
            record(t)
            t.save(out=t.op("attribution.saliency").scores)
        found.append(t.result["out"])
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1], equal_nan=True)


@pytest.mark.parametrize("world", ARCHITECTURES, indirect=True)
def test_stages_go_from_the_output_to_the_input(world):
    found = stages(world.client_model.manifest)
    assert found[0].name == "lm_head"
    assert found[-1].name.endswith(".0")
    assert len({path for part in found for path in part.modules}) == sum(len(part.modules) for part in found)
    n_linear = sum(type(module).__name__ in ("Linear", "Conv1D") for module in world.model.modules())
    assert sum(len(part.modules) for part in found) == n_linear


@pytest.mark.parametrize("world", ARCHITECTURES, indirect=True)
def test_noisy_inputs_are_those_vectors(world):
    with world.prompt() as t:
        with_noisy_inputs(world.client_model.manifest, RADIUS, seed=5)(t)
        t.save(out=t.op("attribution.input_x_gradient", **SIGNED).scores)
    vectors = []
    for side in world.embedded():
        drawn = torch.rand(side.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1
        vectors.append(side + RADIUS * side.square().mean(-1, keepdim=True).sqrt() * drawn)
    by = world.gradients(lambda logits, token: logits.softmax(-1)[token], tuple(vectors))
    np.testing.assert_allclose(t.result["out"], (by * torch.cat(vectors).numpy()).sum(-1).T, rtol=1e-3, atol=1e-6)


def test_baselines_have_no_noise(gpt2):
    constants = {"baseline": "ids", "baseline_ids": (7,), "n_steps": 80, **SIGNED}
    with gpt2.prompt() as t:
        with_noisy_inputs(gpt2.client_model.manifest, RADIUS, seed=5)(t)
        out = t.op("attribution.integrated_gradients", target="logit", start=7, **constants)
        t.save(out=out.scores, logits=t.logits[0, -2])
    with gpt2.prompt((7,) * 8) as plain:
        plain.save(logits=plain.logits[0, -2])
    change = (t.result["logits"] - plain.result["logits"])[gpt2.target[7]]
    np.testing.assert_allclose(np.nansum(t.result["out"]), change, rtol=3e-3)


def test_noise_stays_within_its_radius_and_on_the_given_tokens():
    x, ids = torch.randn(2, 5, 8), torch.tensor([[1, 2, 3, 4, 9], [1, 7, 3, 4, 9]])
    noise = noisy(x, ids, token_ids=(1, 2, 3), radius=RADIUS, seed=1) - x
    share = noise.abs().amax(-1) / x.square().mean(-1).sqrt()
    assert (share <= RADIUS + 1e-5).all()
    assert (share[:, 3:] == 0).all()
    assert (share[1] > 0).tolist() == [True, False, True, False, False]
    torch.testing.assert_close(noisy(x, ids, token_ids=(1, 2, 3), radius=0.0), x)


def test_a_redrawn_weight_keeps_its_mean_and_spread():
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0)) * 0.2 + 3.0
    new = redrawn(weight, seed=1)
    assert abs(new.mean() - 3.0) < 0.01
    assert abs(new.std() - 0.2) < 0.01
    assert not torch.equal(new, redrawn(weight, seed=2))


def test_a_quantised_weight_is_refused(gpt2):
    manifest = copy.copy(gpt2.client_model.manifest)
    parameters = dict(manifest.parameters)
    weight = parameters["lm_head.weight"]
    object.__setattr__(manifest, "parameters", parameters | {"lm_head.weight": type(weight)("int8", weight.dims)})
    with pytest.raises(CallerError, match="'lm_head' is no matrix of numbers"):
        stages(manifest)
    assert Stage("lm_head", ("lm_head",)) in stages(gpt2.client_model.manifest)
