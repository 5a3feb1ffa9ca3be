"""Contrasts in Inseq's words, as ours."""

import pytest

from interpd.errors import InvalidRequest
from interpd_attribution.commands.contrasts import alone, of_rows
from interpd_attribution.dataset import Row


def test_nothing_is_said_of_contrasts():
    assert of_rows({"n_steps": 3}, 2) is None


def test_each_row_has_its_own_texts_and_alignments():
    kwargs = {"contrast_targets": ["a", "b"], "contrast_targets_alignments": [[[1, 1]], [[2, 2]]]}
    assert of_rows(kwargs, 2) == [{"foils": "a", "alignments": [[1, 1]]}, {"foils": "b", "alignments": [[2, 2]]}]


def test_one_text_pairs_and_settings_are_those_of_all_rows():
    kwargs = {"contrast_targets": "a", "contrast_targets_alignments": [[1, 1], [2, 3]], "contrast_force_inputs": True}
    row = {"foils": "a", "alignments": [[1, 1], [2, 3]], "force_inputs": True}
    assert of_rows(kwargs, 2) == [row, row]


def test_other_counts_than_of_rows_and_settings_of_nothing_are_refused():
    with pytest.raises(InvalidRequest, match="1 contrast_targets for 2 inputs; give one for each"):
        of_rows({"contrast_targets": ["a"]}, 2)
    with pytest.raises(InvalidRequest, match="contrast_force_inputs needs contrast_targets or contrast_sources"):
        of_rows({"contrast_force_inputs": True}, 1)


def test_a_foil_behind_the_input_is_a_continuation_and_any_other_a_context_of_its_own():
    behind = alone(Row(0, "the cat", contrast={"foils": "the cat ran"}))
    assert behind.contrast == {"foils": " ran", "whole": False}
    elsewhere = alone(Row(0, "the cat", contrast={"foils": "a dog ran"}))
    assert elsewhere.contrast == {"foils": "a dog ran", "whole": True}


def test_texts_of_ours_are_continuations_with_the_input_before_them_or_without():
    row = alone(Row(0, "the cat", "the cat sat", contrast=[" ran", "the cat slept"]))
    assert (row.generated, row.contrast) == (" sat", [" ran", " slept"])


def test_an_input_that_is_all_of_the_text_has_nothing_behind_it():
    assert alone(Row(0, "the cat", "the cat")).generated == "the cat"
