"""Aggregation: closed forms, what Inseq gets wrong, and what is refused."""

import copy
import dataclasses

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.aggregation import (
    AggregationFunction,
    AggregatorPipeline,
    list_aggregation_functions,
    list_aggregators,
)
from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.attributions import Attributions, merge


def texts(tokens):
    return [token.text for token in tokens]


def test_the_lists_are_those_of_inseq():
    assert list_aggregators() == ["pair", "scores", "slices", "spans", "split", "subwords"]
    assert list_aggregation_functions() == ["absmax", "max", "mean", "min", "prod", "sum", "vnorm"]


@pytest.mark.parametrize("dims", [{"d_model": 3}, {"layer": 2}, {"layer": 2, "head": 3}, {"layer": 2, "d_model": 3}])
def test_by_default_columns_sum_to_one_over_source_and_target(make, dims):
    found = make(dims=dims).aggregate()
    assert found.dims == ()
    np.testing.assert_allclose(np.nansum(np.abs(found.scores), axis=0), 1.0, atol=1e-6)
    # what could not be seen stays unknown
    assert np.isnan(found.target_attributions).sum() == np.isnan(make().target_attributions).sum()


def test_vectors_are_reduced_by_their_norm_and_other_axes_by_their_mean(make):
    one = make(dims={"layer": 2, "d_model": 3})
    expected = np.linalg.norm(one.source_attributions, axis=-1).mean(-1)
    np.testing.assert_allclose(one.aggregate(normalize=False).source_attributions, expected, rtol=1e-6)


def test_what_has_no_axes_left_is_as_it_is(make):
    one = make()
    np.testing.assert_array_equal(one.aggregate().scores, one.scores)
    np.testing.assert_array_equal(make(dims={"d_model": 2}).aggregate().aggregate().dims, ())


def test_rescaling_divides_by_the_largest_magnitude_also_where_nothing_is_reduced(make):
    """Inseq's command ignores it there."""
    for one in (make(), make(dims={"layer": 2})):
        found = one.aggregate(rescale=True)
        assert np.nanmax(np.abs(found.scores)) == pytest.approx(1.0)
        assert found.dims == ()
    np.testing.assert_allclose(np.nansum(np.abs(make().aggregate(normalize=True).scores), axis=0), 1.0, atol=1e-6)


def test_zeros_stay_zeros(make):
    one = make(source_attributions=np.zeros((4, 4)), target_attributions=None)
    for options in ({"normalize": True}, {"rescale": True}):
        np.testing.assert_array_equal(one.aggregate(**options).source_attributions, 0.0)


def test_no_aggregation_changes_what_a_later_one_does(make):
    """In Inseq the mean over heads becomes a norm once gradients were aggregated in the same process."""
    attention, gradients = make(dims={"layer": 2, "head": 2}), make(dims={"d_model": 3})
    options = ("scores", None)
    before = copy.deepcopy(attention.aggregate(*options).scores)
    gradients.aggregate("scores"), gradients.aggregate("spans", target_spans=(1, 3)), gradients.aggregate("vnorm")
    np.testing.assert_array_equal(attention.aggregate(*options).scores, before)


def test_nothing_is_changed_in_place(make):
    one = make(dims={"layer": 2})
    kept = copy.deepcopy(one.scores)
    for call in (lambda: one.aggregate(), lambda: one.aggregate("subwords"), lambda: one - one, lambda: one[1:2]):
        call()
    one.weight_attributions("probability")
    np.testing.assert_array_equal(one.scores, kept)
    with pytest.raises(ValueError, match="read-only"):
        one.source_attributions[0] = 0.0


def test_layers_and_heads_are_selected_one_after_the_other(make):
    one = make(dims={"layer": 3, "head": 4})
    found = one.aggregate("mean", select_idx=[1, 3], normalize=False).aggregate("max", select_idx=2, normalize=False)
    expected = one.source_attributions[:, :, 2, [1, 3]].mean(-1)
    np.testing.assert_allclose(found.source_attributions, expected, rtol=1e-6)
    same = one.aggregate("mean", select_idx=np.int64(1), normalize=False)
    np.testing.assert_array_equal(same.source_attributions, one.source_attributions[..., 1])
    sliced = one.aggregate("sum", select_idx=slice(1, None, 2), normalize=False)
    np.testing.assert_allclose(sliced.source_attributions, one.source_attributions[..., 1::2].sum(-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("select_idx", "said"),
    [
        (4, "select_idx names 4, but layer has entries 0 to 2"),
        ((2, 1), r"select_idx is \(2, 1\), but layer has entries 0 to 2 and a span must hold one"),
        ((0, 1, 2), "a span is a pair"),
        ([], "it must name at least one layer"),
        ([1, 1], "each of them once"),
        ([0, -3], "each of them once"),
        ("0", "expected a number, a pair"),
        (True, "expected a number, a pair"),
    ],
)
def test_a_selection_that_is_not_there_is_refused(make, select_idx, said):
    with pytest.raises(CallerError, match=said):
        make(dims={"layer": 3}).aggregate("mean", select_idx=select_idx)


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (("means",), {}, "no aggregator or aggregation function 'means'; did you mean 'mean'"),
        (("scores", "subwords"), {}, "'subwords' is an aggregator, expected a function"),
        (("mean", "sum"), {}, "'mean' is a function already"),
        ((["mean", "sum"], "sum"), {}, "2 aggregators take as many functions"),
        ((["mean"], ["sum", "max"]), {}, "1 aggregators and 2 functions; give one for each"),
        (([("scores", "mean")], "sum"), {}, "each aggregator comes with a function already"),
        ((7,), {}, "7 is no aggregator"),
        (
            ("mean",),
            {"normalise": False},
            r"no option normalise here \(scores\); there are: normalize, rescale, select_idx",
        ),
        ((), {"source_spans": (0, 1)}, "no option source_spans here"),
        (("mean",), {"vnorm_ord": 1}, "no option vnorm_ord here"),
        (("mean",), {"normalize": True, "rescale": True}, "normalize and rescale exclude each other"),
        (("spans",), {"source_spans": (2, 1)}, r"source_spans has the span \(2, 1\), but spans must be non-empty"),
        (("spans",), {"target_spans": [(0, 2), (1, 3)]}, r"the span \(1, 3\), but spans must be"),
        (("spans",), {"target_spans": [(0, 9)]}, "within 0 to 5"),
        (("spans",), {"target_spans": [0, 1, 2]}, r"target_spans holds \[0, 1, 2\], expected pairs of positions"),
        (("slices", "sum"), {"source_spans": (0, 1)}, "'slices' takes no function, but 'sum' is given"),
        (("slices",), {}, "source_spans and target_spans are both missing"),
        (("split",), {"split_pattern": "("}, "is no regular expression"),
        (("split",), {"split_pattern": "a", "split_mode": "middle"}, "split_mode is 'middle', expected single"),
    ],
)
def test_a_call_that_cannot_be_is_refused(make, args, options, said):
    with pytest.raises(CallerError, match=said):
        make(dims={"layer": 2}).aggregate(*args, **options)


def test_tokens_are_not_reduced_by_mistake(make):
    with pytest.raises(CallerError, match="nothing is left to aggregate but the tokens"):
        make().aggregate("mean")
    with pytest.raises(CallerError, match="the axes layer are left"):
        make(dims={"layer": 2, "head": 2}).aggregate("mean", do_post_aggregation_checks=True)


def test_a_pipeline_is_its_stages_in_turn(make):
    one = make(dims={"d_model": 3})
    stages = one.aggregate("subwords", "sum").aggregate("scores", "vnorm", vnorm_ord=1)
    for chosen in (
        AggregatorPipeline(["subwords", "scores"], ["sum", "vnorm"]),
        [("subwords", "sum"), ("scores", "vnorm")],
    ):
        np.testing.assert_array_equal(one.aggregate(chosen, vnorm_ord=1).scores, stages.scores)


def test_a_function_of_yours_is_taken_as_it_is(make):
    one = make(dims={"layer": 4})

    def spread(scores, axis, power=1):
        return np.ptp(scores, axis=axis) ** power

    expected = np.ptp(one.source_attributions, axis=-1) ** 2
    for function in (spread, AggregationFunction("spread", spread)):
        found = one.aggregate("scores", function, power=2, normalize=False)
        np.testing.assert_allclose(found.source_attributions, expected, rtol=1e-6)
    found = one.aggregate(AggregationFunction("spread", spread), power=2, normalize=False)
    np.testing.assert_allclose(found.source_attributions, expected, rtol=1e-6)


def test_spans_merge_as_inputs_and_as_outputs(make):
    one = make()
    found = one.aggregate("spans", "sum", source_spans=(1, 3), target_spans=[(2, 4)])
    assert texts(found.source) == ["▁the", "▁cats", "</s>"]
    assert texts(found.target) == ["<pad>", "▁die", "▁Katzen", "</s>"]
    assert [token.id for token in found.target] == [0, 1, -1, 4]
    assert (found.attr_pos_start, found.attr_pos_end) == (1, 4)
    before = one.source_attributions
    np.testing.assert_allclose(found.source_attributions[1, 1], before[1:3, 1:3].sum(), rtol=1e-6)
    np.testing.assert_allclose(found.step_scores["probability"][1], one.step_scores["probability"][1:3].sum())


def test_a_score_of_zero_is_known_and_wins_over_one_that_is_not(make):
    """For Inseq a merged word is unknown if one of its pieces has exactly no influence and the other comes later."""
    one = make(target=("<pad>", "▁a", "b"), target_attributions=np.array([[0.0, 1.0], [np.nan, 0.0], [np.nan, np.nan]]))
    found = one.aggregate("spans", target_spans=(1, 3))
    assert found.target_attributions.tolist() == [[1.0], [0.0]]
    alone = make(target=("<pad>", "▁a"), target_attributions=np.array([[np.nan], [np.nan]]))
    assert np.isnan(alone.aggregate("spans", target_spans=(0, 2)).target_attributions).all()


def test_step_scores_are_merged_each_in_its_way(make):
    one = make()
    found = one.aggregate("spans", target_spans=(1, 3))
    for name, expected in (("probability", np.prod), ("entropy", np.sum)):
        assert found.step_scores[name][0] == pytest.approx(expected(one.step_scores[name][:2]), rel=1e-6)


def test_logarithms_of_probabilities_are_added_and_others_may_say_what_they_want(make):
    one = make(info={"step_scores_args": {"logprob": True}, "step_scores_aggregation": {"entropy": "max"}})
    found = one.aggregate("spans", target_spans=(1, 3))
    assert found.step_scores["probability"][0] == pytest.approx(one.step_scores["probability"][:2].sum())
    assert found.step_scores["entropy"][0] == one.step_scores["entropy"][:2].max()


def test_a_word_across_the_prompt_and_its_continuation_counts_as_generated(make):
    one = make(source=(), target=("The", "Ġca", "ts", "Ġsat"), start=2)
    found = one.aggregate("subwords")
    assert texts(found.target) == ["The", "Ġcats", "Ġsat"]
    assert texts(found.generated) == ["Ġcats", "Ġsat"]
    assert texts(found.source) == ["The", "Ġca"]
    np.testing.assert_array_equal(found.target_attributions[0], one.target_attributions[0])


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁the", "▁d", "og"], ["▁the", "▁dog"]),
        (["<s>", "▁the", "▁d", "og", "</s>"], ["<s>", "▁the", "▁dog", "</s>"]),
        (["▁a", "<0x0A>", "<0xE2>", "▁b"], ["▁a<0x0A><0xE2>", "▁b"]),
        (["Hel", "lo", "Ġwor", "ld", "Ċ", "new"], ["Hello", "Ġworld", "Ċnew"]),
        (["[CLS]", "phen", "##omen", "##al", "[SEP]"], ["[CLS]", "phen##omen##al", "[SEP]"]),
        (["<|im_start|>", "user", "Ċ", "Hi", "<|im_end|>"], ["<|im_start|>", "user", "ĊHi", "<|im_end|>"]),
    ],
)
def test_words_are_whole_the_last_one_too(make, pieces, words):
    one = make(source=tuple(pieces), target=("<pad>", "▁x"))
    symbols = None if "▁" in pieces[0] or "▁" in pieces[1] else ("##",) if "##omen" in pieces else ("Ġ", "Ċ")
    found = one.aggregate(
        "subwords", special_chars=symbols, is_suffix_symbol="##omen" in pieces, aggregate_target=False
    )
    assert texts(found.source) == words


def test_the_last_token_stays_by_itself_where_that_is_wanted(make):
    for pieces, kept in ((["▁the", "▁d", "o", "g"], ["▁the", "▁do", "g"]), (["▁the"], ["▁the"])):
        found = make(source=tuple(pieces)).aggregate("subwords", keep_last=True, aggregate_target=False)
        assert texts(found.source) == kept


def test_the_marker_of_words_is_found(make):
    for marked, merged in (("▁", "▁ab"), ("Ġ", "Ġab")):
        one = make(source=(), target=(f"{marked}a", "b", f"{marked}c"), start=1)
        assert texts(one.aggregate("subwords").target) == [merged, f"{marked}c"]


def test_where_no_token_has_a_marker_a_warning_says_so(make):
    one = make(source=(), target=("a", "b", "c"), start=1)
    with pytest.warns(UserWarning, match="no token starts with '▁', so no words are merged; special_chars names"):
        assert texts(one.aggregate("subwords").target) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("single", ["I", " am", ".", " You", " are", ".", " Hi"]),
        ("start", ["I am", ". You are", ". Hi"]),
        ("end", ["I am.", " You are.", " Hi"]),
    ],
)
def test_text_is_split_at_a_pattern(make, mode, expected):
    pieces = ("I", " am", ".", " You", " are", ".", " Hi")
    merged = {"single": ["I am", ".", " You are", ".", " Hi"]}.get(mode, expected)
    found = make(source=pieces).aggregate("split", split_pattern=r"\.", split_mode=mode, aggregate_target=False)
    assert texts(found.source) == merged


def test_a_token_that_two_matches_touch_stands_by_itself(make):
    """Inseq makes an empty span of it here, and stops."""
    found = make(source=("ab", "ca", "bd")).aggregate("split", split_pattern="b|c|abd", aggregate_target=False)
    assert texts(found.source) == ["ab", "ca", "bd"]
    with pytest.warns(UserWarning, match="'q' matches nowhere"):
        make().aggregate("split", split_pattern="q")


def test_slices_keep_what_was_generated(make):
    one = make(source=(), target=("a", "b", "c", "d", "e"), start=3)
    found = one[1:2]
    assert (texts(found.target), texts(found.source)) == (["b", "d", "e"], ["b"])
    assert (found.attr_pos_start, found.attr_pos_end) == (1, 3)
    np.testing.assert_array_equal(found.target_attributions, one.target_attributions[[1, 3, 4]])
    assert texts(one[:-1].target) == ["a", "b", "d", "e"]
    assert texts(one[5:].target) == ["d", "e"]


def test_slices_of_an_encoder_decoder_model_are_of_its_source(make):
    self_attention = np.arange(16.0).reshape(4, 4)
    one = make(sequence_scores={"encoder_self": self_attention, "decoder_self": np.ones((5, 5))})
    found = one[1:3]
    assert texts(found.source) == ["▁cat", "s"]
    assert texts(found.target) == ["▁die", "▁Katz", "en", "</s>"]
    np.testing.assert_array_equal(found.sequence_scores["encoder_self"], self_attention[1:3, 1:3])
    assert found.sequence_scores["decoder_self"].shape == (4, 4)
    kept = one.aggregate("slices", source_spans=[(0, 1), (3, 4)], target_spans=(0, 1))
    assert texts(kept.source) == ["▁the", "</s>"]
    np.testing.assert_array_equal(kept.target_attributions, one.target_attributions)
    for wrong in (3, slice(0, 3, 2)):
        with pytest.raises(CallerError, match=r"is not a range of tokens; write \[start:stop\]"):
            one[wrong]


def test_spans_of_a_source_that_is_not_there_are_refused(make):
    one = make(source=(), target=("a", "b", "c"), start=1)
    for name in ("spans", "slices"):
        with pytest.raises(CallerError, match="the model has no source: its prompt begins the target"):
            one.aggregate(name, source_spans=(0, 1))


def test_the_difference_of_two_results_is_what_changes_from_one_to_the_other(make):
    one, other = make(), make(seed=1, target=("<pad>", "▁ein", "▁Katz", "en", "</s>"))
    found = one - other
    np.testing.assert_allclose(found.scores, other.scores - one.scores)
    assert found.target[1] == Token("▁die → ▁ein", -1)
    assert found.target[2] == one.target[2]
    larger = one.aggregate("pair", np.maximum, paired_attr=other)
    np.testing.assert_array_equal(larger.scores, np.maximum(one.scores, other.scores))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"source": ("a", "b")}, "the source has 4 tokens here and 2 there; merge words or spans"),
        ({"start": 2}, "attr_pos_start is 1 here and 2 there"),
        ({"dims": {"layer": 2}}, r"dims is \(\) here and \('layer',\) there"),
        ({"step_scores": {"entropy": np.ones(4)}}, "step_scores probability of the one are missing in the other"),
        ({"target_attributions": None}, r"target_attributions has shape \(5, 4\) here and None there"),
    ],
)
def test_results_of_different_shape_are_not_compared(make, other, said):
    with pytest.raises(CallerError, match=said):
        make() - make(**other)


def test_attributions_are_weighted_by_a_step_score(make):
    one = make(dims={"d_model": 3})
    found = one.weight_attributions("entropy")
    np.testing.assert_allclose(found.scores, one.aggregate().scores * one.step_scores["entropy"], rtol=1e-6)
    with pytest.raises(CallerError, match="no step score 'logit'; there are: probability, entropy"):
        one.weight_attributions("logit")


def test_only_results_of_one_model_and_method_are_merged(make):
    parts = [Attributions((make(),), {"model_name": name, "input_texts": [name]}) for name in ("a", "a", "b")]
    merged = merge(parts[:2])
    assert (len(merged), merged.info["input_texts"]) == (2, ["a", "a"])
    with pytest.raises(CallerError, match="results 0 and 2 differ in model_name: 'a' and 'b'"):
        merge(parts)
    with pytest.raises(CallerError, match="nothing to merge"):
        merge([])


def test_what_holds_for_all_goes_through_an_aggregation_of_several(make):
    several = Attributions((make(dims={"layer": 2}), make(dims={"layer": 2}, seed=1)), {"seed": 1})
    found = several.aggregate("max", normalize=False)
    assert found.info == {"seed": 1}
    np.testing.assert_array_equal(found[1].scores, several[1].scores.max(-1))
    assert found[0].info["seed"] == 1
    assert [len(item.step_scores) for item in several.weight_attributions("entropy")] == [2, 2]


def test_steps_are_kept_by_every_aggregation(make):
    from interpd_attribution.attribution import Step

    one = dataclasses.replace(make(dims={"layer": 2}), step_attributions=(Step((), Token("a", 1)),))
    assert one.aggregate().step_attributions == one.step_attributions


def test_a_result_without_scores_can_be_merged_and_shown_as_dicts():
    one = Attribution([Token("▁a", 1)], [Token("▁b", 2), Token("c", 3)], step_scores={"entropy": np.array([1.0, 2.0])})
    assert one.aggregate("subwords").step_scores["entropy"].tolist() == [3.0]
    assert one.get_scores_dicts()["step_scores"] == {(0, "▁b"): {"entropy": 1.0}, (1, "c"): {"entropy": 2.0}}


def test_layers_of_the_other_side_are_left_out(make):
    one = make(dims={"layer": 4})
    source, target = one.source_attributions.copy(), one.target_attributions.copy()
    # as of an encoder of one layer and a decoder of three
    source[..., 1:], target[..., 0] = np.nan, np.nan
    both = dataclasses.replace(one, source_attributions=source, target_attributions=target)
    found = both.aggregate("mean", normalize=False)
    np.testing.assert_array_equal(found.source_attributions, source[..., 0])
    np.testing.assert_allclose(found.target_attributions, target[..., 1:].mean(-1), rtol=1e-6)
