"""Attribution inside graphs: under writes, of values, as a node."""

import numpy as np
import pytest
import torch
from attribution_worlds import SEQUENCE

from interpd_client import CallerError

PROMPT, CONTINUATION = list(SEQUENCE[:5]), list(SEQUENCE[5:])
METHOD = {"method": "input_x_gradient", "reduce": "sum"}
DIRECTION = np.linspace(-1, 1, 24, dtype=np.float32)


def steer(t):
    """A direction at every position."""
    t.layers[1].mlp.out += DIRECTION


def hooked(world, scalars):
    """Gradient times input of scalars of the logits of the steered bare model, ``[position column]``."""
    mlp = world.model.get_submodule("transformer.h.1.mlp")
    handle = mlp.register_forward_hook(lambda module, args, output: output + torch.from_numpy(DIRECTION))
    try:
        (leaf,) = (side.detach().clone().requires_grad_() for side in world.embedded())
        rows = [torch.autograd.grad(one, leaf, retain_graph=True)[0] for one in scalars(world.logits(leaf))]
    finally:
        handle.remove()
    return torch.stack([(by * leaf).sum(-1) for by in rows], 1).detach().numpy()


@pytest.fixture(scope="module")
def steered(gpt2):
    """What PyTorch says of the steered model."""
    expected = hooked(gpt2, lambda logits: logits.softmax(-1)[[4, 5, 6], CONTINUATION])
    for column in range(3):
        expected[5 + column :, column] = np.nan
    return expected


def test_what_a_function_writes_is_in_force(gpt2, steered):
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, under=steer, **METHOD)
    np.testing.assert_allclose(out.target_attributions, steered, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prompt", [PROMPT, SEQUENCE])
def test_so_is_what_a_recorded_trace_writes(gpt2, steered, prompt):
    model = gpt2.client_model
    t = model.trace(list(prompt))
    steer(t)
    t.save(unused=t.logits)
    out = model.attribute(PROMPT, CONTINUATION, under=t, **METHOD)
    np.testing.assert_allclose(out.target_attributions, steered, rtol=1e-4, atol=1e-6)


def test_results_tell_which_writes_were_in_force(gpt2, tmp_path):
    def change(t):
        steer(t)
        t.layers[0].mlp.out[:, 1:3] *= 0.0
        t.layers[0].resid_post[:, (0, 2)] = t.layers[0].resid_pre[:, (0, 2)]

    out = gpt2.client_model.attribute([PROMPT] * 2, [CONTINUATION] * 2, under=change, **METHOD)
    told = ["layers.1.mlp.out", "layers.0.mlp.out at 1:3", "layers.0.resid_post at 0, 2"]
    assert out.info["under"] == out[0].info["under"] == told
    assert "under writes at layers.1.mlp.out, layers.0.mlp.out at 1:3, " in out[1].html()
    out.save(tmp_path / "out.json")
    assert type(out).load(tmp_path / "out.json").info["under"] == told
    assert "under" not in gpt2.client_model.attribute(PROMPT, CONTINUATION, **METHOD).info


def test_the_generation_before_is_under_the_same_writes(gpt2):
    model, options = gpt2.client_model, {"max_new_tokens": 4}
    with model.generate(PROMPT, **options) as g:
        steer(g)
    out = model.attribute(PROMPT, under=steer, generation=options, **METHOD)
    assert [token.id for token in out.generated] == list(g.result.token_ids)


@pytest.mark.parametrize("continuation", [{"generated": " sat."}, {"generation": {"max_new_tokens": 2}}])
def test_functions_find_texts_in_the_prompt_as_it_was_written(gpt2, continuation):
    model, prompt, found = gpt2.client_model, "The cat sat on a mat", []

    def forget(t):
        found.append(t.tokens("cat"))
        assert t.tokens.ids[: len(own.ids)] == own.ids
        t.layers[1].mlp.out[:, t.tokens("cat")] *= 0.0

    own = model.tokenize(prompt)
    expected = model.trace(prompt).tokens("cat")
    out = model.attribute(prompt, under=forget, **continuation, **METHOD)
    assert set(found) == {expected}
    assert len(found) == (2 if "generation" in continuation else 1)
    generated = [token.id for token in out.generated]
    plain = model.attribute(prompt, generated, **METHOD)
    t = model.trace(list(own.ids))
    t.layers[1].mlp.out[:, expected] *= 0.0
    by_trace = model.attribute(prompt, generated, under=t, **METHOD)
    np.testing.assert_array_equal(out.target_attributions, by_trace.target_attributions)
    assert not np.allclose(plain.scores, out.scores, equal_nan=True)


def test_writes_at_the_prompt_and_everywhere_go_together(gpt2):
    """Those at positions of the prompt are in force in its pass, others in each step."""
    model, options = gpt2.client_model, {"max_new_tokens": 3}

    def change(t):
        steer(t)
        t.layers[0].mlp.out[:, :3] *= -9.0

    with model.generate(PROMPT, **options) as g:
        steer(g)
        with g.at(0):
            g.layers[0].mlp.out[:, :3] *= -9.0
    out = model.attribute(PROMPT, under=change, generation=options, **METHOD)
    assert [token.id for token in out.generated] == list(g.result.token_ids)


def test_functions_find_texts_on_each_side(t5):
    model, found = t5.client_model, []

    def look(t):
        found.append((t.tokens.source("cat"), t.tokens.target("sat")))

    out = model.attribute("The cat", "A dog sat", under=look, **METHOD)
    tokens = model.tokenize("The cat", target="A dog sat")
    source, target = found[0]
    assert "cat" in "".join(tokens.strings[at] for at in source)
    assert "sat" in "".join(tokens.target.strings[at] for at in target)
    assert len(out.source) == len(tokens.ids)


@pytest.mark.parametrize("place", [-1, slice(-2, None), slice(None, -1)])
def test_writes_that_mean_other_tokens_elsewhere_are_refused(gpt2, place):
    model = gpt2.client_model

    def at_the_end(t):
        t.layers[1].mlp.out[:, place] += DIRECTION

    with pytest.raises(CallerError, match="give generated"):
        model.attribute(PROMPT, under=at_the_end)
    t = model.trace(PROMPT)
    at_the_end(t)
    with pytest.raises(CallerError, match="over the whole sequence"):
        model.attribute(PROMPT, CONTINUATION, under=t)
    with pytest.raises(CallerError, match="another prompt"):
        model.attribute(PROMPT[1:], CONTINUATION, under=t)
    whole = model.trace(list(SEQUENCE))
    at_the_end(whole)
    assert model.attribute(PROMPT, CONTINUATION, under=whole).scores.shape == (8, 3)


def test_what_a_trace_only_looks_at_may_be_counted_from_the_end(gpt2, steered):
    model = gpt2.client_model
    with model.trace(PROMPT) as t:
        steer(t)
        t.save(top=t.logits[:, -1].argmax(-1))
    out = model.attribute(PROMPT, CONTINUATION, under=t, **METHOD)
    np.testing.assert_allclose(out.target_attributions, steered, rtol=1e-4, atol=1e-6)


def test_a_value_of_the_graph_is_attributed_towards(gpt2):
    def value(t):
        return t.logits[0, -1, :2]

    out = gpt2.client_model.attribute(list(SEQUENCE), target=value, under=steer, **METHOD)
    expected = hooked(gpt2, lambda logits: logits[-1, :2])
    np.testing.assert_allclose(out.target_attributions[:8], expected, rtol=1e-4, atol=1e-5)
    assert [token.text for token in out.generated] == ["value[0]", "value[1]"]
    assert np.isnan(out.target_attributions[8:]).all()


@pytest.mark.parametrize("method", ["input_x_gradient", "occlusion", "integrated_gradients", "shapley_values"])
def test_a_value_may_be_made_of_one_token(gpt2, t5, method):
    baseline = {} if method == "input_x_gradient" else {"baseline": [7]}
    asked = {"method": method, "target": lambda t: t.logits[0, -1, 3], **baseline}
    alone = gpt2.client_model.attribute([5], **asked)
    assert alone.scores.shape == (2, 1)
    assert alone.scores[0, 0] != 0
    of_source = t5.client_model.attribute(PROMPT, **asked)  # the decoder has its start only
    assert of_source.source_attributions.shape == (5, 1)
    assert np.all(of_source.source_attributions != 0)


def test_a_node_gives_values_for_further_operations(gpt2, steered):
    model = gpt2.client_model
    with model.trace() as t:
        p = t.prompt(list(SEQUENCE))
        steer(p)
        out = model.attribute.node(p, attr_pos_start=5, step_scores=["entropy"], **METHOD)
        t.save(most=out.scores[:5].abs().argmax(0), entropy=out.step_scores)
        to_value = model.attribute.node(p, target=p.logits[0, -1, 3], **METHOD)
        t.save(to_value=to_value.scores)
    np.testing.assert_array_equal(t.result["most"], np.abs(steered[:5]).argmax(0))
    assert t.result["entropy"].shape == (1, 3)
    expected = hooked(gpt2, lambda logits: logits[-1, 3:4])
    np.testing.assert_allclose(t.result["to_value"], expected, rtol=1e-4, atol=1e-5)


def test_options_of_requests_are_none_of_a_node(gpt2):
    model = gpt2.client_model
    t = model.trace(list(SEQUENCE))
    with pytest.raises(CallerError, match="'under' is said by whoever runs the trace"):
        model.attribute.node(t, under=steer)
