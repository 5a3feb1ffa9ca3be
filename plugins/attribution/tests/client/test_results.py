"""What comes back: labels, columns, merged tokens, what it says of itself."""

import numpy as np
import pytest
from attribution_worlds import SEQUENCE

from interpd_attribution.attributions import Attributions
from interpd_attribution.contrast import Contrast
from interpd_attribution.features import Segments
from interpd_attribution.worker.scoring.registry import step_functions
from interpd_client import CallerError, UnknownName

PROMPT, CONTINUATION = list(SEQUENCE[:5]), list(SEQUENCE[5:])
SIGNED = {"method": "input_x_gradient", "reduce": "sum"}
INSEQS_KEYS = {
    *("attribution_method", "model_name", "model_class", "tokenizer_name", "input_texts", "generated_texts"),
    *("generation_args", "attributed_fn", "attribution_args", "constrained_decoding", "generate_from_target_prefix"),
    *("include_eos_baseline", "attribute_target", "output_step_attributions", "step_scores", "attr_pos_end"),
    *("attributed_fn_args", "step_scores_args", "tokenizer_class"),
}


def texts(tokens):
    return [token.text for token in tokens]


def test_words_are_marked_where_they_begin_whatever_the_vocabulary_has_there(gpt2, llama):
    for world in (gpt2, llama):
        out = world.client_model.attribute("The cat sat", " on the mat", **SIGNED)
        whole = "".join(texts(out.target)).removeprefix("<s>").removeprefix("▁")
        assert whole == "The▁cat▁sat▁on▁the▁mat"
        words = out.aggregate("subwords")
        assert [text.strip("▁") for text in texts(words.target)[-6:]] == ["The", "cat", "sat", "on", "the", "mat"]


def test_spans_are_columns_and_the_sums_of_their_tokens(gpt2):
    model = gpt2.client_model
    asked = {**SIGNED, "target": "probability(logprob=True)", "step_scores": ["probability", "entropy"]}
    single, merged = (model.attribute(PROMPT, CONTINUATION, spans=spans, **asked) for spans in (None, [(5, 7)]))
    first = np.nansum(single.target_attributions[:, :2], axis=1)
    np.testing.assert_allclose(merged.target_attributions[:5, 0], first[:5], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(merged.target_attributions[5, 0], first[5:7].sum(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        merged.target_attributions[:5, 1], single.target_attributions[:5, 2], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(merged.step_scores["probability"][0], single.step_scores["probability"][:2].prod())
    np.testing.assert_allclose(merged.step_scores["entropy"][0], single.step_scores["entropy"][:2].sum(), rtol=1e-6)
    assert [token.id for token in merged.generated] == [-1, SEQUENCE[7]]
    whole = model.attribute(PROMPT, CONTINUATION, span=True, **asked)
    np.testing.assert_allclose(whole.scores[:5, 0], np.nansum(single.scores[:5], axis=1), rtol=1e-4, atol=1e-6)


def test_features_are_rows(gpt2):
    model = gpt2.client_model
    single = model.attribute("The cat sat on", " the mat", **SIGNED)
    words = model.attribute("The cat sat on", " the mat", features="word", **SIGNED)
    n = len(words.generated)
    assert texts(words.source) == ["The", "cat", "sat", "on"]
    assert words.generated == single.generated
    np.testing.assert_allclose(words.scores[:4].sum(0), single.scores[:-n].sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "said", [{"generated": [50, 60, 70]}, {"generated": " on the mat"}, {"generation": {"max_new_tokens": 3}}]
)
def test_words_of_a_source_need_no_text_of_the_target(t5, said):
    """What its decoder starts with is an ordinary token."""
    words = t5.client_model.attribute("The cat sat", features="word", attribute_target=True, **SIGNED, **said)
    single = t5.client_model.attribute("The cat sat", attribute_target=True, **SIGNED, **said)
    assert texts(words.source)[:3] == ["The", "cat", "sat"]
    assert words.target == single.target
    np.testing.assert_allclose(
        words.source_attributions.sum(0), single.source_attributions.sum(0), rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(words.target_attributions, single.target_attributions, rtol=1e-4, atol=1e-6)


def test_features_that_are_no_rows_of_the_attributed_tokens_come_before_them(gpt2):
    halves = Segments((0,) * 4 + (1,) * 4, ("first", "second"))
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, features=halves, **SIGNED)
    assert texts(out.target)[:2] == ["first", "second"]
    assert len(out.generated) == 3
    single = gpt2.client_model.attribute(PROMPT, CONTINUATION, **SIGNED)
    np.testing.assert_allclose(out.scores[0], single.scores[:4].sum(0), rtol=1e-4, atol=1e-6)
    assert np.isnan(out.scores[2:]).all()


def test_layers_and_heads_come_behind_the_tokens(gpt2, t5):
    sites = {"sites": ("layers.{i}.attn.z",)}
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, method="layer_gradient_x_activation_heads", **sites)
    assert out.dims == ("layer", "head")
    assert out.scores.shape == (8, 3, 3, 4)
    out = t5.client_model.attribute(PROMPT, CONTINUATION, method="attention")
    assert {name: array.shape[:2] for name, array in out.sequence_scores.items()} == {
        "encoder_self_attentions": (5, 5),
        "decoder_self_attentions": (4, 4),
    }
    assert out.aggregate().scores.shape == (5, 3)


def test_vectors_and_deltas_are_kept(gpt2):
    asked = {"method": "integrated_gradients", "baseline": "mean", "n_steps": 4, "convergence_delta": True}
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, granular=True, **asked)
    assert out.dims == ("d_model",)
    assert out.step_scores["deltas"].shape == (3,)
    np.testing.assert_allclose(
        out.aggregate(normalize=False).scores,
        gpt2.client_model.attribute(PROMPT, CONTINUATION, **asked).scores,
        rtol=1e-4,
    )


@pytest.mark.parametrize(("method", "raised"), [("integrated_gradients", "n_steps"), ("gradient_shap", "n_samples")])
def test_sums_that_miss_the_change_are_told_with_what_to_raise(gpt2, method, raised):
    asked = {"method": method, "baseline": "zeros", "reduce": "sum", "target": "logit", raised: 1}
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, **asked, convergence_delta=True)
    sums, deltas = np.nansum(out.scores, 0), out.step_scores["deltas"]
    change = sums - deltas
    (told,) = out.info["warnings"]
    far = [at for at in range(3) if abs(deltas[at]) > max(0.05 * abs(change[at]), 0.01)]
    named = [f"{out.generated[at].text!r} ({deltas[at]:+.2g} of " in told for at in range(3)]
    assert [at for at in range(3) if named[at]] == far
    assert told.endswith(f": raise {raised}, which was 1")
    assert gpt2.client_model.attribute(PROMPT, CONTINUATION, **asked).info["warnings"] == []


def test_sums_that_are_close_are_not_told(gpt2):
    asked = {"method": "integrated_gradients", "baseline": "mean", "n_steps": 300, "convergence_delta": True}
    assert gpt2.client_model.attribute(PROMPT, " sat", **asked).info["warnings"] == []


def test_sampled_scores_say_how_sure_they_are(gpt2):
    asked = {"method": "shapley_value_sampling", "baseline": "zeros", "n_samples": 4, "seed": 3}
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, **asked)
    assert np.shape(out.info["standard_errors"]) == out.scores.shape
    assert out.info["seed"] == 3


@pytest.mark.parametrize("method", ["kernel_shap", "lime", "context_cite", "reagent"])
def test_what_methods_say_of_their_scores_survives_its_file(gpt2, tmp_path, method):
    options = {"reagent": {"num_probes": 2, "max_probe_steps": 2}}.get(method, {"baseline": "zeros"})
    told = {"kernel_shap": "standard_errors", "lime": "fits", "context_cite": "drops", "reagent": "stopped"}[method]
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, method=method, **options)
    out.save(tmp_path / "out.json")
    found = Attributions.load(tmp_path / "out.json")[0].info[told]
    assert found == out.info[told]
    assert np.shape(found)[-1] == 3


def test_step_scores_alone_are_a_result(gpt2):
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, method="dummy", step_scores=["entropy"])
    assert not out.has_scores
    assert out.step_scores["entropy"].shape == (3,)


def test_a_result_says_how_it_came_about_and_survives_its_file(gpt2, tmp_path):
    out = gpt2.client_model.attribute([PROMPT, PROMPT[:3]], [CONTINUATION, [9]], step_scores=["entropy"], **SIGNED)
    assert set(out.info) >= INSEQS_KEYS
    assert out.info["step_scores_args"] == {}
    assert out.info["tokenizer_class"] == gpt2.client_model.info.tokenizer != ""
    scores = ["probability(logprob=True)", "entropy"]
    asked = {"target": "contrast_prob_diff(logprob=True)", "contrast": [7], "step_scores": scores}
    told = gpt2.client_model.attribute(PROMPT, [9], **asked).info
    assert told["attributed_fn_args"] == {"logprob": True}
    assert told["step_scores_args"] == {"probability(logprob=True)": {"logprob": True}}
    assert {"dtype", "device", "versions", "run_id", "model_revision", "method_version"} <= set(out[0].info)
    out.save(tmp_path / "out.json")
    again = Attributions.load(tmp_path / "out.json")
    np.testing.assert_array_equal(again[1].scores, out[1].scores)


def test_a_foil_stands_beside_the_token(gpt2):
    asked = {"method": "integrated_gradients", "baseline": "mean", "n_steps": 3, "target": "contrast_prob_diff"}
    model = gpt2.client_model
    out = model.attribute([PROMPT, PROMPT[1:]], [CONTINUATION] * 2, contrast=[*CONTINUATION[:2], 7], **asked)
    assert "→" in out[0].generated[-1].text
    assert "→" not in out[0].generated[0].text
    with pytest.raises(CallerError, match="give contrast="):
        model.attribute(PROMPT, CONTINUATION, **asked)
    with pytest.raises(CallerError, match="neither target nor step_scores"):
        model.attribute(PROMPT, CONTINUATION, contrast=[7, 7, 7])


def test_a_foil_of_an_encoder_decoder_model_ends_as_the_target_does(t5):
    model, asked = t5.client_model, {**SIGNED, "target": "contrast_prob_diff", "attribute_target": True}
    end = model.tokenize("The cat").ids[-1]
    target, foil = (model.tokenize("The cat", target=text).target.ids[1:] for text in ("A dog sat", "A dig sat"))
    assert target[-1] != end != foil[-1]
    by_text = model.attribute("The cat", [*target, end], contrast="A dig sat", **asked)
    by_ids = model.attribute("The cat", [*target, end], contrast=[*foil, end], **asked)
    np.testing.assert_array_equal(by_text.scores, by_ids.scores)
    assert (by_text.generated[-1].id, by_text.info["warnings"]) == (end, [])
    without = model.attribute("The cat", target, contrast="A dig sat", **asked)
    assert without.info["constants"]["contrast_ids"][-1] == foil[-1]


def test_several_foils_are_their_mean(gpt2):
    asked = {**SIGNED, "target": "contrast_logits_diff"}
    foils = [[*CONTINUATION[:2], 7], [8, *CONTINUATION[1:]]]
    both, *each = (
        gpt2.client_model.attribute(PROMPT, CONTINUATION, contrast=foil, **asked) for foil in (foils, *foils)
    )
    mean = (each[0].scores + each[1].scores) / 2
    np.testing.assert_allclose(both.scores, mean, rtol=1e-4, atol=1e-6)
    assert [token.id for token in both.generated] == [-1, SEQUENCE[6], -1]


def test_a_span_is_contrasted_with_another_of_any_length(gpt2):
    attribute, foil = gpt2.client_model.attribute, [7, 8, 9, 10, 11]
    asked = {**SIGNED, "span": True}
    out = attribute(
        PROMPT,
        CONTINUATION,
        contrast=Contrast(foil, as_wholes=True),
        target="contrast_prob_diff(logprob=True)",
        **asked,
    )
    own, other = (attribute(PROMPT, ids, target="probability(logprob=True)", **asked) for ids in (CONTINUATION, foil))
    np.testing.assert_allclose(out.scores[:5], own.scores[:5] - other.scores[:5], rtol=1e-4, atol=1e-5)
    ((label, id_),) = out.generated
    assert id_ == -1
    assert label.endswith(f" → {own.generated[0].text}")


def test_one_site_may_be_given_as_it_is(gpt2):
    asked = {"method": "layer_gradient_x_activation", "target": "logit"}
    alone, listed = (
        gpt2.client_model.attribute(PROMPT, CONTINUATION, sites=sites, **asked)
        for sites in ("layers.1.resid_post", ("layers.1.resid_post",))
    )
    np.testing.assert_array_equal(alone.scores, listed.scores)
    assert alone.info["constants"] == listed.info["constants"]


def test_what_is_offered_is_listed_and_explained(gpt2, capsys):
    attribute = gpt2.client_model.attribute
    assert {"saliency", "integrated_gradients"} <= set(attribute.methods())
    assert not [name for name in attribute.methods() if name.endswith(("_vectors", "_heads"))]
    known = attribute.step_functions()
    for name, one in step_functions().items():
        found = known.pop(name)
        assert [option.partition(":")[0] for option in found.options] == list(one.options)
        assert (found.contrastive, found.differentiable) == (one.contrastive, one.differentiable)
    assert not known
    attribute.explain("integrated_gradients")
    attribute.explain("kl_divergence")
    said = capsys.readouterr().out
    assert "n_steps" in said
    assert said.count("Source: ") == 1
    assert "top_k: int = 0" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": 3}, "method is 3, expected the id of a method"),
        (
            {"generation": {"max_length": 3}},
            "generation has no option 'max_length'; it takes max_new_tokens, do_sample",
        ),
        ({"span": "yes"}, "span is 'yes', expected True or False"),
        ({"attr_pos_start": True}, "attr_pos_start is True, expected an integer"),
        ({"attr_pos_end": 1.5}, "attr_pos_end is 1.5, expected an integer"),
        ({"reduce": 2}, "reduce is 2, expected a name"),
        ({"generation": 3}, "generation is 3, expected a mapping"),
        ({"on_partial": 3}, "on_partial is 3, expected a function"),
        ({"under": 3}, "under is 3, expected a trace or a function"),
        ({"step_scores": 7}, "step_scores is 7, expected the names"),
        ({"step_scores": [7]}, "step_scores is \\[7\\], expected the names"),
        ({"target": 7}, "target is 7, expected the name of a step function or a function"),
        ({"baseline": 7.5, "method": "occlusion"}, "baseline is 7.5, expected one of unk, pad"),
    ],
    ids=str,
)
def test_options_of_another_kind_are_named(gpt2, given, said):
    with pytest.raises(CallerError, match=said):
        gpt2.client_model.attribute(PROMPT, CONTINUATION, **given)


def test_what_would_have_no_effect_is_refused(gpt2):
    attribute = gpt2.client_model.attribute
    with pytest.raises(CallerError, match=r"span \(0, 2\), but attributed are positions 5 to 8"):
        attribute(PROMPT, CONTINUATION, spans=[(0, 2)])
    with pytest.raises(CallerError, match="foil is too short for 3 attributed tokens"):
        attribute(PROMPT, CONTINUATION, contrast=[7, 8], target="contrast_prob_diff")
    with pytest.raises(CallerError, match=r"gave .*, expected a value of the trace"):
        attribute(PROMPT, target=lambda t: (t.logits[0, -1, 3], t.logits[0, -1, 4]))
    with pytest.raises(CallerError, match="no option 'methd'; did you mean 'method'"):
        attribute(PROMPT, CONTINUATION, methd="saliency")


def test_errors_point_at_the_line_that_asked(gpt2):
    with pytest.raises(CallerError) as caught:
        gpt2.client_model.attribute(PROMPT, CONTINUATION, method="smoothgrad", n_samples="many")  # here
    assert "test_results.py" in str(caught.value)
    assert "# here" in str(caught.value)
    assert "'n_samples' wants an integer" in str(caught.value)


def test_values_have_no_step_scores_and_not_every_method_explains_them(gpt2):
    attribute = gpt2.client_model.attribute
    asked = {"target": lambda t: t.logits[0, -1, 3]}
    with pytest.raises(CallerError, match="step_scores are of attributed tokens, but a value"):
        attribute(PROMPT, step_scores=["entropy"], **asked)
    with pytest.raises(CallerError, match="'attention' explains predictions, no values"):
        attribute(PROMPT, method="attention", **asked)


def test_vectors_of_layers_are_vectors_to_aggregations(gpt2):
    sites = {"method": "layer_gradient_x_activation", "sites": ("layers.{i}.mlp.out",), "granular": True}
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION, **sites)
    assert out.dims == ("layer", "d_unit")
    lengths = np.linalg.norm(out.scores, axis=-1)
    np.testing.assert_allclose(out.aggregate("vnorm", normalize=False).scores, lengths, rtol=1e-5)
    np.testing.assert_allclose(out.aggregate(normalize=False).scores, lengths.mean(-1), rtol=1e-5)


def test_options_are_checked_before_anything_is_sent(gpt2):
    attribute = gpt2.client_model.attribute
    with pytest.raises(CallerError, match="no option 'n_step'; did you mean 'n_steps'"):
        attribute(PROMPT, CONTINUATION, method="integrated_gradients", n_step=3)
    with pytest.raises(CallerError, match="wants an integer, got 'many'"):
        attribute(PROMPT, CONTINUATION, method="integrated_gradients", n_steps="many")
    with pytest.raises(CallerError, match="has no option 'baseline'"):
        attribute(PROMPT, CONTINUATION, baseline="mean")
    with pytest.raises(UnknownName, match="did you mean 'saliency'"):
        attribute(PROMPT, CONTINUATION, method="saliensy")
    with pytest.raises(CallerError, match="give 'attr_pos_start'"):
        attribute(PROMPT, CONTINUATION, start=3)
    with pytest.raises(CallerError, match="did you mean 'entropy'"):
        attribute(PROMPT, CONTINUATION, step_scores=["entropi"])
