"""``interpd attribute``: what comes out is what ``model.attribute`` gives."""

import json

import numpy as np
import pytest

from interpd_attribution.attributions import Attributions

TEXT, CONTINUATION = "the cat sat", " on the mat"
SHORT = ("--max-new-tokens", 3)


def saved(line, path, *argv):
    code, _, err = line("attribute", "--hide", "-o", path, *argv)
    assert (code, err) == (0, "")
    return Attributions.load(path)


def same(one, other):
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)


def test_a_text_is_shown_as_a_table(line_gpt2):
    code, out, _ = line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--step-scores", "entropy")
    assert code == 0
    assert "Target attribution" in out
    assert "entropy" in out


@pytest.mark.parametrize("given", [CONTINUATION, TEXT + CONTINUATION])
def test_what_follows_is_given_with_the_input_before_it_or_without(line_gpt2, gpt2, tmp_path, given):
    found = saved(line_gpt2, tmp_path / "out.json", "-i", TEXT, "-g", given)
    same(found[0], gpt2.attribute(TEXT, CONTINUATION))


def test_options_reach_the_method(line_gpt2, gpt2, tmp_path):
    found = saved(
        line_gpt2,
        tmp_path / "out.json.gz",
        *("-i", TEXT, "-g", CONTINUATION, "-a", "integrated_gradients", "-fn", "logit", "--eos", "-s", -2, "-e", -1),
        *("--baseline", "mean", "--attribution_kwargs", '{"n_steps": 5}', "--step_scores", "probability", "entropy"),
        *("--reduce", "sum"),
    )
    expected = gpt2.attribute(
        *(TEXT, CONTINUATION),
        method="integrated_gradients",
        target="logit",
        include_eos_baseline=True,
        attr_pos_start=-2,
        attr_pos_end=-1,
        baseline="mean",
        n_steps=5,
        reduce="sum",
        step_scores=("probability", "entropy"),
    )
    same(found[0], expected)
    assert list(found[0].step_scores) == ["probability", "entropy"]
    assert found[0].scores.shape[1] == 1


def test_several_texts_are_one_result(line_gpt2, gpt2, tmp_path):
    found = saved(line_gpt2, tmp_path / "out.json", "-i", TEXT, "the", *SHORT, "-bs", 2)
    assert [item.info["input_texts"] for item in found] == [[TEXT], ["the"]]
    same(found[1], gpt2.attribute("the", generation={"max_new_tokens": 3}))
    assert "dataset" not in found.info


def test_a_contrast_is_given_as_texts_or_in_inseqs_words(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--target", "contrast_prob_diff")
    ours = saved(line_gpt2, tmp_path / "ours.json", *ask, "--contrast", " on the bat")
    theirs = json.dumps({"contrast_targets": TEXT + " on the bat"})
    same(ours[0], gpt2.attribute(TEXT, CONTINUATION, contrast=" on the bat", target="contrast_prob_diff"))
    same(ours[0], saved(line_gpt2, tmp_path / "theirs.json", *ask, "--attribution-kwargs", theirs)[0])


def test_several_foils_are_several_options(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--target", "contrast_prob_diff")
    found = saved(line_gpt2, tmp_path / "out.json", *ask, "--contrast", " on the bat", "--contrast", " on the man")
    foils = [" on the bat", " on the man"]
    same(found[0], gpt2.attribute(TEXT, CONTINUATION, contrast=foils, target="contrast_prob_diff"))


def test_words_are_features_and_a_span_is_one_column(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--features", "word", "--span")
    found = saved(line_gpt2, tmp_path / "out.json", *ask)
    same(found[0], gpt2.attribute(TEXT, CONTINUATION, features="word", span=True))
    assert found[0].scores.shape[1] == 1


def test_an_encoder_has_a_target_of_its_own(line_t5, t5, tmp_path):
    found = saved(line_t5, tmp_path / "out.json", "-i", TEXT, "-g", TEXT + CONTINUATION, "--attribute-target")
    same(found[0], t5.attribute(TEXT, TEXT + CONTINUATION, attribute_target=True))
    assert found[0].target_attributions is not None


def test_a_given_beginning_is_continued(line_t5, t5, tmp_path):
    ask = ("-i", TEXT, "-g", "the", "--generate-from-target-prefix", *SHORT)
    found = saved(line_t5, tmp_path / "out.json", *ask)
    same(found[0], t5.attribute(TEXT, "the", generation={"max_new_tokens": 3}))
    assert found[0].info["generate_from_target_prefix"]


def test_aggregators_get_the_vectors_that_they_reduce(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "-a", "input_x_gradient", "--attribution-aggregators")
    whole = gpt2.attribute(TEXT, CONTINUATION, method="input_x_gradient", granular=True)
    summed = saved(line_gpt2, tmp_path / "a.json", *ask, "sum")[0]
    same(summed, whole.aggregate("sum", normalize=False))
    scaled = saved(line_gpt2, tmp_path / "b.json", *ask, "sum", "--normalize-attributions")[0]
    same(scaled, whole.aggregate("sum", normalize=True))
    picked = saved(line_gpt2, tmp_path / "c.json", *ask, "scores", "--attribution-selectors", 3)[0]
    same(picked, whole.aggregate("scores", select_idx=3, normalize=False))


def test_rescaling_works_without_selectors_where_inseq_ignores_it(line_gpt2, gpt2, tmp_path):
    found = saved(line_gpt2, tmp_path / "out.json", "-i", TEXT, "-g", CONTINUATION, "--rescale_attributions")
    assert np.nanmax(np.abs(found[0].scores)) == 1.0
    same(found[0], gpt2.attribute(TEXT, CONTINUATION).aggregate(rescale=True))


def test_aggregated_output_is_aggregated_where_inseq_only_says_so(line_gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--granular")
    assert saved(line_gpt2, tmp_path / "a.json", *ask)[0].dims == ("d_model",)
    assert saved(line_gpt2, tmp_path / "b.json", *ask, "--aggregate_output")[0].dims == ()


def test_numbers_are_scaled_where_that_is_asked_for_only(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "-a", "layer_gradient_x_activation")
    means = gpt2.attribute(TEXT, CONTINUATION, method="layer_gradient_x_activation").aggregate("mean", normalize=False)
    same(saved(line_gpt2, tmp_path / "a.json", *ask, "--aggregate_output")[0], means)
    _, out, _ = line_gpt2("attribute", *ask)
    assert f"0 to {np.nanmax(means.scores):.4g} (red)" in out
    scaled = saved(line_gpt2, tmp_path / "b.json", *ask, "--normalize_attributions")[0]
    np.testing.assert_allclose(np.nansum(np.abs(scaled.scores), 0), 1, rtol=1e-5)


def test_step_attributions_are_kept_and_can_be_loaded(line_gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--output-step-attributions", "--step-scores", "probability")
    found = saved(line_gpt2, tmp_path / "out.json", *ask)[0]
    assert [step.target for step in found.step_attributions] == list(found.generated)
    last = found.step_attributions[-1]
    np.testing.assert_array_equal(last.target_attributions, found.scores[:-1, -1])
    assert len(last.prefix) == len(found.target) - 1
    assert last.step_scores["probability"] == found.step_scores["probability"][-1]
    assert found.info["output_step_attributions"]


def test_the_document_on_standard_output_is_that_of_a_file(line_gpt2, tmp_path):
    code, out, _ = line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--json")
    assert code == 0
    path = tmp_path / "out.json"
    path.write_text(out)
    assert json.loads(out)["format"] == "interpd-attribution"
    same(Attributions.load(path)[0], saved(line_gpt2, tmp_path / "file.json", "-i", TEXT, "-g", CONTINUATION)[0])


def test_a_page_is_a_document_of_its_own(line_gpt2, tmp_path):
    page = tmp_path / "out.html"
    assert line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--hide", "--viz_path", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!")
    assert "<table" in text


def test_files_are_replaced_only_where_that_is_said_and_before_anything_is_run(line_gpt2, tmp_path):
    path = tmp_path / "out.json"
    path.write_text("mine")
    ask = ("attribute", "-i", TEXT, "-g", CONTINUATION, "--hide", "-o", path)
    code, _, err = line_gpt2(*ask)
    assert code == 2
    assert "exists; --overwrite replaces it; nothing was run" in err
    assert path.read_text() == "mine"
    assert line_gpt2(*ask, "--overwrite")[0] == 0
    assert len(Attributions.load(path)) == 1


def test_methods_are_listed_and_explained(line_gpt2):
    code, out, _ = line_gpt2("attribute", "--list-methods")
    assert code == 0
    assert "integrated_gradients" in out
    _, out, _ = line_gpt2("attribute", "--explain", "integrated_gradients")
    assert "n_steps" in out
    assert "Inseq's internal_batch_size is rows_per_pass" in out
    _, out, _ = line_gpt2("attribute", "--explain", "deeplift")
    assert "'deeplift' is 'gradient_x_difference' here" in out
    _, out, _ = line_gpt2("attribute", "--list-methods", "--json")
    assert "saliency" in json.loads(out)


def test_an_unknown_method_names_the_nearest(line_gpt2):
    code, _, err = line_gpt2("attribute", "-i", TEXT, "-a", "salience")
    assert code == 3
    assert "no attribution method 'salience'" in err
    assert "did you mean 'saliency'?" in err


def test_an_input_that_fails_is_named(line_gpt2):
    code, _, err = line_gpt2("attribute", "-i", TEXT, TEXT, "-g", CONTINUATION, " on the mat the mat", "-s", 12)
    assert code == 3
    assert "-i number 1 of 2: attributed are positions" in err


def test_it_says_what_it_asks_where_that_is_wanted(line_gpt2):
    _, _, err = line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--hide", "-v")
    assert "1 texts: {'method': 'saliency'}" in err
    _, _, err = line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--hide")
    assert err == ""


def test_options_of_step_functions_are_among_those_of_the_method_as_inseq_has_them(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "--attribution_kwargs", '{"logprob": true, "absolute": false}')
    found = saved(line_gpt2, tmp_path / "out.json", *ask)
    same(found[0], gpt2.attribute(TEXT, CONTINUATION, target="probability(logprob=True)", absolute=False))


def test_options_of_methods_are_known_under_inseqs_names(line_gpt2, gpt2, tmp_path):
    ask = ("-i", TEXT, "-g", CONTINUATION, "-a", "integrated_gradients", "--attribution_kwargs")
    written = {"n_steps": 4, "internal_batch_size": 3, "attribution_args": {"method": "riemann_left"}}
    found = saved(line_gpt2, tmp_path / "a.json", *ask, json.dumps(written))
    ours = {"n_steps": 4, "rows_per_pass": 3, "rule": "riemann_left"}
    same(found[0], gpt2.attribute(TEXT, CONTINUATION, method="integrated_gradients", **ours))
    same(found[0], saved(line_gpt2, tmp_path / "b.json", *ask, json.dumps(ours))[0])
    layer = json.dumps({"target_layer": "transformer.h.1.mlp", "attribute_to_layer_input": True})
    ask = ("-i", TEXT, "-g", CONTINUATION, "-a", "layer_gradient_x_activation", "--attribution_kwargs", layer)
    sites = ("transformer.h.1.mlp.input",)
    expected = gpt2.attribute(TEXT, CONTINUATION, method="layer_gradient_x_activation", sites=sites)
    same(saved(line_gpt2, tmp_path / "c.json", *ask)[0], expected)


def test_deeplift_is_called_what_it_is(line_gpt2, gpt2, tmp_path):
    path = tmp_path / "out.json"
    code, _, err = line_gpt2("attribute", "--hide", "-o", path, "-i", TEXT, "-g", CONTINUATION, "-a", "deeplift")
    assert code == 0
    assert "'deeplift' is 'gradient_x_difference' here" in err
    same(Attributions.load(path)[0], gpt2.attribute(TEXT, CONTINUATION, method="gradient_x_difference"))


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("deeplift", {"multiply_by_inputs": False}, "gradients by themselves are method='saliency'"),
        ("integrated_gradients", {"method": "simpson"}, "simpson"),
        ("saliency", {"internal_batch": 3}, "no option 'internal_batch'"),
        ("integrated_gradients", {"n_steps": "many"}, "interpd: param 'n_steps' wants an integer, got 'many'"),
    ],
)
def test_options_that_cannot_be_had_are_refused(line_gpt2, method, given, said):
    code, _, err = line_gpt2("attribute", "-i", TEXT, "-a", method, "--attribution_kwargs", json.dumps(given))
    assert code == 3
    assert said in err


def test_what_it_would_cost_is_said(line_gpt2):
    code, out, _ = line_gpt2("attribute", "-i", TEXT, "the dog", "-g", CONTINUATION, " sat", "--estimate")
    assert code == 0
    assert "gradients" in out
    _, out, _ = line_gpt2("attribute", "-i", TEXT, "-g", CONTINUATION, "--estimate", "--json")
    assert json.loads(out)["bytes_returned"] > 0


def test_step_functions_are_listed_with_their_options(line_gpt2):
    _, out, _ = line_gpt2("attribute", "--list-step-functions")
    assert "top_k: int = 0" in out
    _, out, _ = line_gpt2("attribute", "--list-step-functions", "--json")
    assert json.loads(out)["kl_divergence"]["contrastive"]
