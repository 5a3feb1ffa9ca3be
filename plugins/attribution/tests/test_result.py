"""The result object: what it holds, what it refuses, and that it needs no torch."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.attributions import Attributions


def test_warnings_are_shown_with_the_result(make):
    assert repr(make(info={"warnings": ["too few steps"]})).endswith("1 in info['warnings']: too few steps>")
    assert "warnings" not in repr(make(info={"warnings": []}))


def test_a_result_says_what_it_holds(make):
    one = make(dims={"layer": 2}, info={"attribution_method": "attention"})
    assert repr(one) == (
        "<attention: 4 tokens attributed, [input generated layer] = [9 4 2], step scores: probability, entropy>"
    )
    assert repr(Attributions((one,))) == f"<1 attributions>\n  0: {one!r}"


def test_rows_are_the_source_and_then_the_target(make):
    one = make()
    assert one.features == one.source + one.target
    np.testing.assert_array_equal(one.scores, np.concatenate((one.source_attributions, one.target_attributions)))
    assert [token.text for token in one.generated] == ["▁die", "▁Katz", "en", "</s>"]
    alone = make(source=(), target=("a", "b", "c"), start=2)
    assert alone.features == alone.target
    assert [token.text for token in alone.source] == ["a", "b"]


def test_arrays_are_float32_and_cannot_be_written_to(make):
    one = make(step_scores={"entropy": [1, 2, 3, 4]})
    for array in (one.source_attributions, one.target_attributions, one.step_scores["entropy"]):
        assert array.dtype == np.float32
        assert not array.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.dims = ("layer",)


def test_an_array_of_the_caller_stays_his():
    mine = np.zeros((1, 1), dtype=np.float32)
    Attribution([("a", 1)], [("b", 2)], mine)
    mine[0, 0] = 1.0


def test_results_can_be_copied_and_sent_to_other_processes(make):
    one = Attributions((make(),), {"seed": 1})
    for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        np.testing.assert_array_equal(again[0].scores, one[0].scores)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attr_pos_end": 9}, "positions 1 to 9 are attributed, but the target has 5 tokens"),
        ({"attr_pos_start": -1}, "positions -1 to 5"),
        ({"source_attributions": np.zeros((4, 3))}, r"source_attributions has shape \(4, 3\), expected \(4, 4\)"),
        ({"target_attributions": np.zeros((4, 4))}, r"target_attributions has shape \(4, 4\), expected \(5, 4\)"),
        ({"source_attributions": np.zeros((4, 4, 2))}, r"shape \(4, 4, 2\), expected \(4, 4\)"),
        (
            {"step_scores": {"entropy": np.zeros(5)}},
            r"step_scores\['entropy'\] has shape \(5,\), expected one number for",
        ),
        ({"sequence_scores": {"encoder_x": np.zeros((4, 5))}}, r"sequence_scores\['encoder_x'\] has shape \(4, 5\)"),
        ({"sequence_scores": {"decoder_x": np.zeros((3, 5))}}, r"shape \(3, 5\), expected \(4 or 5, 4 or 5\)"),
        ({"sequence_scores": {"cross_x": np.zeros((5, 4))}}, r"shape \(5, 4\), expected \(4, 4\)"),
        ({"dims": ("layer", "layer")}, "two axes have one name: layer, layer"),
        ({"dims": ("layer",)}, r"source_attributions has shape \(4, 4\), expected \(4, 4, layer\)"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_made(make, change, said):
    with pytest.raises(CallerError, match=said):
        dataclasses.replace(make(), **change)


def test_axes_of_source_and_target_have_one_size(make):
    one = make(dims={"layer": 2})
    with pytest.raises(CallerError, match="layer is 3 in target_attributions, but 2 in source_attributions"):
        dataclasses.replace(one, target_attributions=np.zeros((5, 4, 3)))


def test_tokens_are_decoded_and_cleaned(make):
    class Upper:
        def decode(self, ids):
            return f"<{ids[0]}>"

    one = make(source=(), target=("Ġa", "Ċ", "▁b"), start=1)
    merged = dataclasses.replace(one, target=(*one.target[:2], Token("x", -1)))
    assert [token.text for token in merged.decode_tokens(Upper()).target] == ["<0>", "<1>", "x"]
    assert [token.text for token in one.clean_tokens().target] == [" a", "\n", " b"]
    assert [token.text for token in Attributions((one,)).clean_tokens({"Ġ": "_"})[0].target] == ["_a", "Ċ", "▁b"]


def test_several_results_are_a_sequence(make):
    several = Attributions([make(seed=n) for n in range(3)], {"input_texts": ["a", "b", "c"], "seed": 7})
    assert (len(several), len(list(several))) == (3, 3)
    part = several[1:]
    assert part.info == {"input_texts": ["b", "c"], "seed": 7}
    np.testing.assert_array_equal(part[0].scores, several[1].scores)
    assert several[2].info == {"input_texts": ["c"], "seed": 7}
    assert several.step_attributions is None
    with pytest.raises(CallerError, match="3 is a int, expected an Attribution"):
        Attributions((3,))


def test_dicts_of_scores_name_every_pair_of_tokens(make):
    one = make()
    found = one.get_scores_dicts()
    assert found["source_attributions"][(2, "▁Katz")][(1, "▁cat")] == one.source_attributions[1, 1]
    assert found["step_scores"][(1, "▁die")]["entropy"] == one.step_scores["entropy"][0]
    with pytest.raises(CallerError, match="the axes layer are left; aggregate them first"):
        make(dims={"layer": 2}).get_scores_dicts(do_aggregation=False)


def test_results_files_and_views_need_no_torch():
    heavy = ("torch", "transformers", "safetensors", "interpd_client", "IPython")
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in heavy)
    code = f"import sys; sys.path[:] = {sys.path!r}; {blocked}import interpd_attribution.attributions"
    subprocess.run([sys.executable, "-c", code], check=True)
