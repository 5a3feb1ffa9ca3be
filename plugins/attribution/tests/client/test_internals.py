"""Methods of model internals from the client."""

import numpy as np
import pytest

from interpd.errors import InterpdError

IDS, REST = [5, 40, 77, 120], [33, 9]


def test_maps_of_attention_are_reduced_where_the_model_is(gpt2):
    whole = gpt2.client_model.attribute(IDS, REST, method="attention")
    assert whole.dims == ("layer", "head")
    small = gpt2.client_model.attribute(IDS, REST, method="attention", heads_reduce="mean", layers_reduce="mean")
    assert small.target_attributions.shape == (6, 2, 1, 1)
    np.testing.assert_allclose(
        np.nan_to_num(small.target_attributions[..., 0, 0]),
        np.nan_to_num(whole.aggregate("mean").aggregate("mean").target_attributions),
        rtol=1e-5,
        atol=1e-6,
    )


def test_scores_between_positions_of_one_side_come_beside_the_others(t5):
    out = t5.client_model.attribute(IDS, [50, 60, 70], method="value_zeroing")
    n_source, n_target = len(out.source), len(out.target)
    assert {name: array.shape for name, array in out.sequence_scores.items()} == {
        "encoder_self_scores": (n_source, n_source, 2),
        "decoder_self_scores": (n_target, n_target, 3),
    }


@pytest.mark.parametrize("method", ["direct_logit_attribution", "alti_logit"])
def test_methods_that_take_logits_apart_do_so_unasked(gpt2, method):
    attribute = gpt2.client_model.attribute
    unasked, asked = attribute(IDS, REST, method=method), attribute(IDS, REST, method=method, target="logit")
    np.testing.assert_array_equal(unasked.target_attributions, asked.target_attributions)
    assert unasked.info["attributed_fn"] == "logit"
    contrast = attribute(IDS, REST, method=method, target="contrast_logits_diff", contrast=[34, 10])
    assert not np.allclose(np.nan_to_num(contrast.target_attributions), np.nan_to_num(asked.target_attributions))
    with pytest.raises(InterpdError, match="entropy"):
        attribute(IDS, REST, method=method, target="entropy")


@pytest.mark.parametrize(
    ("world", "options", "said"),
    [
        ("gpt2", {}, [f"layers.{n}.mlp.out" for n in range(3)]),
        (
            "gpt2",
            {"sites": ("layers.{i}.attn.out", "layers.1.mlp.out")},
            ["layers.0.attn.out", "layers.1.attn.out", "layers.2.attn.out", "layers.1.mlp.out"],
        ),
        (
            "t5",
            {},
            [*(f"encoder.layers.{n}.mlp.out" for n in range(2)), *(f"decoder.layers.{n}.mlp.out" for n in range(3))],
        ),
    ],
)
def test_a_result_knows_what_its_layers_are(request, world, options, said):
    attribute = request.getfixturevalue(world).client_model.attribute
    out = attribute(IDS, [50, 60], method="layer_gradient_x_activation", **options)
    assert out.info["layers"] == said
    assert out.scores.shape[2] == len(said)


def test_a_method_without_a_target_names_none(gpt2):
    assert gpt2.client_model.attribute(IDS, REST, method="attention").info["attributed_fn"] is None
    assert gpt2.client_model.attribute(IDS, REST, method="saliency").info["attributed_fn"] == "probability"


def test_chosen_layers_are_named(gpt2):
    out = gpt2.client_model.attribute(IDS, REST, method="attention", layers=(-1,))
    assert (out.info["layers"], out.dims) == (["2"], ("layer", "head"))
    assert "layers" not in gpt2.client_model.attribute(IDS, REST, method="attention").info
