"""Scripts of Inseq, run through its calls here, give Inseq's numbers."""

import itertools
import warnings

import numpy as np
import pytest
from attribution_golden import reading, tiny

from interpd.errors import CallerError, FeatureUnsupported
from interpd_attribution import inseq_shim as inseq
from interpd_attribution.attribution import Token
from interpd_attribution.inseq_shim.outputs import marked
from interpd_attribution.inseq_words import method_of, options_of, with_options
from interpd_client import UnknownName

ATOL, RTOL = 1e-6, 1e-4


@pytest.fixture(scope="module")
def gpt2():
    with inseq.load_model(tiny.model("tiny-gpt2"), "saliency", tokenizer=tiny.tokenizer("tiny-gpt2")) as model:
        yield model


@pytest.fixture(scope="module")
def t5():
    with inseq.load_model(tiny.model("tiny-t5"), "saliency", tokenizer=tiny.tokenizer("tiny-t5")) as model:
        yield model


def texts(name):
    golden = reading.golden(name)
    return golden.sequence("source").text, golden.sequence("target").text


def case_of(name, id_):
    return reading.golden(name).case(id_)


def assert_scores(one, case):
    """The result's arrays are those of the case."""
    assert set(case.arrays) & {"source", "target"}
    for ours, theirs in ((one.source_attributions, case.source_scores), (one.target_attributions, case.target_scores)):
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, RTOL, ATOL * max(1.0, np.nanmax(np.abs(theirs))))


@pytest.mark.slow
def test_a_model_of_transformers_is_loaded_again_for_another_method():
    loaded, tokenizer = tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2")
    one = inseq.load_model(loaded, "saliency", tokenizer=tokenizer)
    again = inseq.load_model(loaded, "input_x_gradient", tokenizer=tokenizer)
    assert again.attribute([texts("tiny-gpt2")[0]], [texts("tiny-gpt2")[1]]).info["attribution_method"] == (
        "input_x_gradient"
    )
    with pytest.raises(CallerError, match="loaded already, with another tokenizer"):
        inseq.load_model(loaded, "saliency", tokenizer=tiny.tokenizer("tiny-gpt2"))
    one.close()
    with inseq.load_model(loaded, "saliency", tokenizer=tiny.tokenizer("tiny-gpt2")) as anew:
        assert anew.info["model_class"] == type(loaded).__name__


# the example of Inseq's README, but for the model
def test_the_first_script_explains_what_the_model_writes(gpt2, capsys):
    source, _ = texts("tiny-gpt2")
    out = gpt2.attribute(source, method="integrated_gradients", n_steps=20, internal_batch_size=10,
                         generation_args={"max_new_tokens": 8}, show_progress=False)  # fmt: skip
    out.show()
    assert "Ġnur" in capsys.readouterr().out
    told = case_of("tiny-gpt2.scores", "free").told
    assert [token.id for token in out[0].target] == told["target_ids"]
    assert out.info["generated_texts"] == [told["generated"]]
    assert out.sequence_attributions[0].target_attributions.shape == (13, 8, 64)


# "contrastive attribution", of Inseq's documentation
def test_the_contrastive_script_has_inseqs_numbers(gpt2):
    source, target = texts("tiny-gpt2")
    foil = reading.golden("tiny-gpt2").sequence("foil").text
    out = gpt2.attribute(
        source,
        target,
        method="input_x_gradient",
        attributed_fn="contrast_prob_diff",
        contrast_targets=foil,
        step_scores=["contrast_prob_diff", "probability"],
        show_progress=False,
    )
    assert_scores(
        out.aggregate("sum", normalize=False)[0], case_of("tiny-gpt2", "input_x_gradient/contrast_prob_diff/sum")
    )
    assert_scores(out.aggregate()[0], case_of("tiny-gpt2", "input_x_gradient/contrast_prob_diff/l2"))
    wanted = case_of("tiny-gpt2.scores", "foil").step_scores["contrast_prob_diff"]
    np.testing.assert_allclose(out[0].step_scores["contrast_prob_diff"], wanted, RTOL, ATOL)
    assert [token.id for token in out[0].generated] == [-1] * 5
    assert out[0].generated[0].text.replace(" ", "").replace("Ġ", "") == "y→on"


@pytest.mark.slow
def test_translation_and_its_words(t5):
    source, target = texts("tiny-t5")
    out = t5.attribute(source, target, attribute_target=True, abs=False, step_scores=["probability", "entropy"])
    one = out.sequence_attributions[0]
    golden = reading.golden("tiny-t5")
    assert [token.text for token in one.source] == list(golden.sequence("source").tokens)
    assert [token.text for token in one.target] == list(golden.sequence("target").tokens)
    assert_scores(one, case_of("tiny-t5", "saliency+abs=False+target/probability/raw"))
    assert_scores(one.aggregate(), case_of("tiny-t5", "saliency+abs=False+target/probability/l2"))
    scores = case_of("tiny-t5.scores", "plain").step_scores
    for name in ("probability", "entropy"):
        np.testing.assert_allclose(one.step_scores[name], scores[name], RTOL, ATOL)
    words = one.aggregate("subwords").aggregate()
    assert [token.text for token in words.source] == ["▁The", "▁nurse", "▁and", "▁the", "▁doctor", "</s>"]
    assert out.info["attribution_method"] == "saliency"


def test_several_texts_come_back_together(t5):
    source, target = texts("tiny-t5")
    foil = reading.golden("tiny-t5").sequence("foil").text
    out = t5.attribute([source, source], [target, foil], step_scores=["crossentropy", "probability"], batch_size=2)
    assert len(out) == len(out.info["input_texts"]) == 2
    for one, number in zip(out, (0, 1), strict=True):
        wanted = case_of("tiny-t5.scores", f"batch-{number}").step_scores
        for name in ("crossentropy", "probability"):
            np.testing.assert_allclose(one.step_scores[name], wanted[name], RTOL, ATOL)
    with pytest.raises(CallerError, match="1 of them for 2 input_texts"):
        t5.attribute([source, source], target)


def test_contrasts_of_several_texts_are_no_error(gpt2):
    """Inseq refuses them (X-12)."""
    source, target = texts("tiny-gpt2")
    foil = reading.golden("tiny-gpt2").sequence("foil").text
    options = {"attributed_fn": "contrast_logits_diff", "contrast_targets_alignments": [[(5, 5)], []]}
    out = gpt2.attribute([source] * 2, [target] * 2, contrast_targets=[foil, foil], **options)
    np.testing.assert_allclose(out[0].target_attributions, out[1].target_attributions)


def test_positions_are_inseqs(gpt2):
    source, target = texts("tiny-gpt2")
    out = gpt2.attribute(source, target, attr_pos_start=7, attr_pos_end=9)
    assert (out[0].attr_pos_start, out[0].attr_pos_end) == (7, 9)
    assert [token.text for token in out[0].generated] == ["ave", "ĠJohn"]


def test_a_default_method_and_its_override(gpt2):
    source, target = texts("tiny-gpt2")
    assert gpt2.attribute(source, target, method="dummy", step_scores=["logit"])[0].has_scores is False
    assert gpt2.attribution_method == "saliency"
    gpt2.attribute(source, target, method="input_x_gradient", override_default_attribution=True)
    assert gpt2.attribution_method == "input_x_gradient"
    gpt2.attribution_method = "saliency"


def test_deeplift_says_what_it_is(gpt2):
    source, target = texts("tiny-gpt2")
    with pytest.warns(UserWarning, match="'gradient_x_difference' here"):
        out = gpt2.attribute(source, target, method="deeplift")
    assert_scores(out[0].aggregate(), case_of("tiny-gpt2", "deeplift/probability/l2"))
    assert out.info["attribution_method"] == "deeplift"
    assert "gradient_x_difference" in out.info["note"]


def test_one_layer_by_its_path_and_by_its_module(gpt2):
    source, target = texts("tiny-gpt2")
    out = gpt2.attribute(source, target, method="layer_gradient_x_activation", target_layer="transformer.h.1.mlp")
    assert out[0].dims == ("d_unit",)
    assert out[0].target_attributions.shape == (10, 5, 64)
    with pytest.raises(CallerError, match="is no module of the model"):
        gpt2.attribute(source, target, method="layer_gradient_x_activation", target_layer=object())


def test_several_layers_stay_several(gpt2):
    source, target = texts("tiny-gpt2")
    sites = ("transformer.h.{i}.mlp.output",)
    out = gpt2.attribute(source, target, method="layer_gradient_x_activation", sites=sites)
    assert out[0].dims[0] == "layer"
    assert out[0].target_attributions.shape[2] > 1


def test_steps_can_be_kept(gpt2):
    source, target = texts("tiny-gpt2")
    out = gpt2.attribute(source, target, output_step_attributions=True, step_scores=["probability"])
    steps = out.step_attributions
    assert len(steps) == 5
    assert steps[1].target_attributions.shape == (6, 64)
    np.testing.assert_array_equal(steps[1].target_attributions, out[0].target_attributions[:6, 1])
    assert steps[1].step_scores["probability"] == out[0].step_scores["probability"][1]


def test_readable_tokens(gpt2):
    source, target = texts("tiny-gpt2")
    out = gpt2.attribute(source, target, clean_special_chars=True)
    assert [token.text for token in out[0].source] == ["The", " nur", "se", " said", " that"]


def test_generation_counts_as_transformers_does(gpt2, t5):
    assert gpt2.generation("The nurse said that", {"max_length": 9})["max_new_tokens"] == 4
    assert gpt2.generation("The nurse said that", {})["max_new_tokens"] == 15
    assert t5.generation("The nurse", {"max_length": 9, "num_beams": 1})["max_new_tokens"] == 8
    assert gpt2.generation("x", {"max_new_tokens": 3, "skip_special_tokens": True}) == {"max_new_tokens": 3}
    with pytest.raises(CallerError, match="no beams"):
        gpt2.generation("x", {"num_beams": 2})
    source, _ = texts("tiny-gpt2")
    assert gpt2.generate(source, max_new_tokens=8) == [case_of("tiny-gpt2.scores", "free").told["generated"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"generated_texts": "Another text"}, "begin with their input texts"),
        ({"device": "cuda:7"}, "the model is on cpu"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"attributed_fn": len}, "function of this process"),
        ({"generation_args": {"max_new_tokens": 3}}, "generated_texts say what is explained already"),
        ({"contrast_targets": "The nurse said that on"}, "none of probability contrasts anything"),
        ({"nsteps": 3}, "has no option 'nsteps'"),
        ({"method": "salience"}, "no attribution method 'salience'"),
    ],
)
def test_what_cannot_be_is_refused(gpt2, options, said):
    source, target = texts("tiny-gpt2")
    with pytest.raises((CallerError, UnknownName), match=said):
        gpt2.attribute(source, **{"generated_texts": target, **options})


def test_one_contrast_for_target_and_scores(t5):
    source, target = texts("tiny-t5")
    with pytest.raises(CallerError, match="contrast_targets differs"):
        t5.attribute(
            source,
            target,
            attributed_fn="contrast_prob",
            attributed_fn_args={"contrast_targets": "a"},
            step_scores=["pcxmi"],
            step_scores_args={"contrast_targets": "b"},
        )


def test_options_in_other_words():
    def path(layer):
        return layer

    assert options_of("integrated_gradients", {"method": "riemann_left", "internal_batch_size": 5}, path) == {
        "rule": "riemann_left",
        "rows_per_pass": 5,
    }
    windows = {"sliding_window_shapes": ((2, 64),), "strides": (1, 64)}
    assert options_of("occlusion", windows, path) == {"window": 2, "stride": 1}
    assert options_of("value_zeroing", {"decoder_zeroed_units_indices": {0: [1, 2], 3: 0}}, path) == {
        "decoder_zeroed_units_indices": (1, 2, 0),
        "decoder_zeroed_units_layers": (0, 0, 3),
    }
    assert options_of("value_zeroing", {"cross_zeroed_units_indices": (1, 3)}, path) == {
        "cross_zeroed_units_indices": (1, 2)
    }
    layer = {"target_layer": "h.1", "attribute_to_layer_input": True}
    assert options_of("layer_integrated_gradients", layer, path) == {"sites": ("h.1.input",)}
    assert options_of("discretized_integrated_gradients", {"n_jobs": 4, "method": "greedy"}, path) == {
        "strategy": "greedy"
    }
    assert options_of("deeplift", {"multiply_by_inputs": True}, path) == {}
    with pytest.raises(CallerError, match="'saliency' with abs=False"):
        options_of("deeplift", {"multiply_by_inputs": False}, path)


def test_step_functions_get_their_own_options():
    given = {"logprob": True, "top_k": 5}
    assert with_options("probability", given) == "probability(logprob=True)"
    assert with_options("kl_divergence", given) == "kl_divergence(top_k=5)"
    assert with_options("logit", given) == "logit"
    assert with_options("margin(k=2)", given) == "margin(k=2)"


def test_lists_are_inseqs():
    assert len(inseq.list_feature_attribution_methods()) == 16
    assert len(inseq.list_step_functions()) == 14
    assert inseq.list_aggregators() == ["pair", "scores", "slices", "spans", "split", "subwords"]
    assert len(inseq.list_aggregation_functions()) == 7
    assert inseq.list_supported_frameworks() == ["hf_transformers"]


@pytest.mark.parametrize(
    ("id_", "said"),
    [("deeplift", "gradient_x_difference"), ("kl_divergence", "top_k"), ("subwords", "pieces|word"), ("mean", "mean")],
)
def test_names_are_explained(capsys, id_, said):
    inseq.explain(id_)
    assert any(word in capsys.readouterr().out for word in said.split("|"))


def test_functions_of_this_process_are_refused():
    with pytest.raises(CallerError, match=r"run no code of clients.*entry point"):
        inseq.register_step_function(lambda args: None, "mine")
    with pytest.warns(UserWarning, match="not needed here"):
        inseq.register_model_config("GPT2LMHeadModel", {})


def test_loading_is_checked():
    with pytest.raises(CallerError, match="framework is 'jax'"):
        inseq.load_model("gpt2", framework="jax")
    with pytest.raises(FeatureUnsupported, match="load_in_4bit: attribution of quantised models"):
        inseq.load_model("gpt2", model_kwargs={"load_in_4bit": True})
    with pytest.raises(CallerError, match="served already"):
        inseq.load_model("gpt2", address="localhost:1", device="cuda")
    with pytest.raises(CallerError, match="the model is loaded already"):
        inseq.load_model(object(), tokenizer_kwargs={"use_fast": True})
    with pytest.raises(CallerError, match="brings its own"):
        inseq.load_model("gpt2", tokenizer="gpt2")


@pytest.mark.slow
def test_arguments_of_transformers_and_where_the_tokenizer_is(gpt2, tmp_path):
    tiny.save("tiny-gpt2", tmp_path)
    source, target = texts("tiny-gpt2")
    wanted = gpt2.attribute(source, target)[0].target_attributions
    cut = {"tokenizer_kwargs": {"model_max_length": 64}, "model_kwargs": {"torch_dtype": "float32"}, "device": "cpu"}
    of_hf = {"tokenizer": str(tmp_path), "tokenizer_kwargs": {"model_max_length": 64}}
    for model, options in ((str(tmp_path), cut), (tiny.model("tiny-gpt2"), of_hf)):
        with inseq.load_model(model, "saliency", **options) as loaded:
            found = loaded.attribute(source, target)[0]
            np.testing.assert_allclose(found.target_attributions, wanted, RTOL, ATOL)


def test_what_is_where_the_model_is_says_so(gpt2):
    with pytest.raises(AttributeError, match=r"encode: the tokenizer is where the model is; \.model\.tokenize"):
        gpt2.encode("a")
    with pytest.raises(AttributeError, match=r"a model has no 'layers' here; \.model is interpd's own"):
        _ = gpt2.layers


def test_inseqs_classes_of_aggregators_are_names(t5):
    source, target = texts("tiny-t5")
    squeeze = inseq.AggregatorPipeline([inseq.SubwordAggregator, inseq.SequenceAttributionAggregator])
    one = t5.attribute(source, target, attribute_target=True)[0]
    words = one.aggregate(aggregator=squeeze)
    np.testing.assert_allclose(words.scores, one.aggregate("subwords").aggregate().scores)
    assert np.nanmax(np.abs(words.aggregate(inseq.PairAggregator, paired_attr=words).scores)) == 0


def test_foils_of_step_scores_have_their_own_context_anyway(gpt2):
    source, target = texts("tiny-gpt2")
    foil = reading.golden("tiny-gpt2").sequence("foil").text
    ask = {"method": "dummy", "step_scores": ["pcxmi"], "contrast_targets": foil}
    forced = gpt2.attribute(source, target, contrast_force_inputs=True, **ask)
    np.testing.assert_array_equal(
        forced[0].step_scores["pcxmi"], gpt2.attribute(source, target, **ask)[0].step_scores["pcxmi"]
    )
    with pytest.raises(CallerError, match="a contrast is dict, expected a text for each"):
        gpt2.attribute(source, target, **{**ask, "contrast_targets": {"input_ids": [1]}})


def test_results_take_inseqs_options(gpt2, tmp_path):
    source, target = texts("tiny-gpt2")
    out = gpt2.attribute(source, target)
    whole = out.aggregate("vnorm", do_pre_aggregation_checks=False, do_post_aggregation_checks=True)
    np.testing.assert_allclose(whole[0].scores, out[0].aggregate(do_pre_aggregation_checks=False).scores)
    with pytest.raises(CallerError, match="return_html=True"):
        out.show_granular(return_figure=True)
    with pytest.raises(CallerError, match="return_html=True"):
        out[0].show_tokens(return_figure=True)
    assert "<" in out.show_granular(return_figure=False, return_html=True, display=False)
    with pytest.raises(CallerError, match="ndarray_compact=False"):
        out.save(tmp_path / "out.json", use_primitives=True)
    out.save(tmp_path / "out.json", compress=True)
    again = inseq.FeatureAttributionOutput.load(tmp_path / "out.json", decompress=True)
    np.testing.assert_array_equal(again[0].target_attributions, out[0].target_attributions)
    with pytest.raises(CallerError, match="is compressed"):
        inseq.FeatureAttributionOutput.load(tmp_path / "out.json", decompress=False)
    both = inseq.merge_attributions([out, again])
    assert len(both) == len(out + again) == 2
    assert type(both[0]) is inseq.FeatureAttributionSequenceOutput
    assert "<table" in inseq.show_attributions(both, return_html=True, display=False)
    assert inseq.show_token_attributions(both, return_html=True, display=False)
    assert inseq.show_granular_attributions(both, return_html=True, display=False)


def test_files_of_inseq_are_loaded():
    path = reading.DATA / "saved" / "granular-compressed.json.gz"
    assert len(inseq.FeatureAttributionOutput.load(path, decompress=True)) >= 1


def test_tokens_are_written_as_in_their_vocabulary():
    tokens = (Token("<s>", 1), Token("a", 2), Token("▁b", 3), Token("▁x → ▁\ny", -1))
    assert [one.text for one in marked(tokens, is_byte_level=True)] == ["<s>", "a", "Ġb", "Ġx → ĠĊy"]
    assert [one.text for one in marked(tokens, is_byte_level=False)] == ["<s>", "▁a", "▁b", "▁x → ▁\ny"]
    # a text of its own begins on each side
    pairs = (Token("<pad>", 0), Token("</s> → the", -1), Token("the → ▁do", -1))
    assert [one.text for one in marked(pairs, is_byte_level=False)] == ["<pad>", "</s> → ▁the", "▁the → ▁do"]


def is_comparable(case):
    """As in ``worker/test_golden.py``, which says why; and what has no text that is spelled in the same way."""
    if case.raises or case.method in (
        "gradient_shap",
        "layer_integrated_gradients",
        "layer_deeplift",
        "lime",
        "reagent",
    ):
        return False
    if case.method in ("layer_gradient_x_activation",) and case.target_arguments.get("contrast_force_inputs"):
        return False
    return not (case.method == "deeplift" and case.model == "tiny-t5")


def options_in(case):
    """The case's call, in Inseq's own words."""
    found = {**case.target_arguments, "attributed_fn": case.target, "attribute_target": case.attribute_target}
    own = dict(case.arguments)
    # Inseq does not pass it on: whatever is said, it looks at 50
    own.pop("n_neighbors", None)
    if case.contrast:
        if case.golden.is_encoder_decoder and case.contrast == "elsewhere":
            found["contrast_sources"] = case.sequence("source_elsewhere").text
        else:
            found["contrast_targets"] = case.sequence(case.contrast).text
            if case.alignments:
                found["contrast_targets_alignments"] = list(case.alignments)
    return {**found, "method": case.method, "attribution_args": own}


def mismatches(name):
    """The ids of cases whose numbers are others."""
    golden, found = reading.golden(name), []
    source, target = texts(name)
    with inseq.load_model(tiny.model(name), tokenizer=tiny.tokenizer(name)) as model:
        known = [case for case in golden.cases if is_comparable(case)]
        for _, cases in itertools.groupby(known, options_in):
            group = list(cases)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = model.attribute(source, target, show_progress=False, **options_in(group[0]))
            found += [case.id for case in group if not is_alike(out[0], case)]
    return found


def as_written(key, value):
    return tuple(value) if key == "select_idx" and isinstance(value, list) else value


def is_alike(one, case):
    ours = one
    with np.errstate(invalid="ignore"):
        for name, options in case.aggregation:
            ours = ours.aggregate(name, **{key: as_written(key, value) for key, value in options.items()})
    n_steps = case.arguments.get("n_steps")
    trapezoid = case.arguments.get("method") == "riemann_trapezoid" and case.suffix != "l2"
    factor = 1 - 1 / n_steps if trapezoid else 1.0
    pairs = ((ours.source_attributions, case.source_scores), (ours.target_attributions, case.target_scores))
    vectors = np.nan_to_num(one.scores)
    # where token and foil are one, nothing is attributed, and Inseq divides by it
    told = np.abs(vectors).max(axis=(0, *range(2, vectors.ndim))) > 1e-8
    size = 1.0 if case.suffix == "l2" else max(1.0, float(np.abs(vectors).sum(-1).max()))
    if case.method == "occlusion":
        # differences of scores that Inseq has in float32
        size = 10.0
    return all(
        theirs is None or np.allclose(mine[:, told] * factor, theirs[:, told], RTOL, ATOL * size, equal_nan=True)
        for mine, theirs in pairs
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", reading.TINY)
def test_every_call_has_inseqs_numbers(name):
    assert mismatches(name) == []


def test_heads_of_value_zeroing_are_written_in_inseqs_ways(gpt2):
    source, target = texts("tiny-gpt2")
    written = {"head-1": 1, "heads-0-to-2": (0, 2), "heads-1-and-3": [1, 3], "heads-by-layer": {0: [0, 1], 2: [3]}}
    for name, heads in written.items():
        out = gpt2.attribute(source, target, method="value_zeroing", decoder_zeroed_units_indices=heads)
        wanted = case_of("tiny-gpt2.value-zeroing", f"{name}/raw").target_scores
        # distances of nearly equal vectors: the cosine has few digits in float32
        np.testing.assert_allclose(out[0].target_attributions, wanted, atol=1e-3)


def test_unknown_methods_are_ours():
    assert method_of("smoothgrad").id == "smoothgrad"
