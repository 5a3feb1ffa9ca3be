"""Every aggregation gives Inseq's numbers, on random results of every kind. ``golden/results/make.py`` made them."""

import dataclasses
import math
import warnings

import numpy as np
import pytest

from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.attributions import Attributions, merge
from interpd_attribution.files import inseq_json

ATOL = 1e-6


@pytest.fixture(scope="module")
def results(golden_results):
    """Each kind of result, as its file is read."""
    read = {name: inseq_json.from_json(content, name) for name, content in golden_results["kinds"].items()}
    return {name: (sequences[0], info) for name, (sequences, info) in read.items()}


@pytest.fixture(scope="module")
def cases(golden_results):
    return golden_results["aggregated"]["cases"]


def untagged(value):
    if isinstance(value, dict) and set(value) == {"tuple"}:
        return tuple(untagged(item) for item in value["tuple"])
    return [untagged(item) for item in value] if isinstance(value, list) else value


def array(written):
    if written is None:
        return None
    values = [math.nan if value is None else value for value in written["values"]]
    return np.array(values, dtype=np.float32).reshape(written["shape"])


def assert_equal(found, expected, before):
    """What is not in ``expected`` did not change."""
    # of a decoder-only model the source is the prompt, whose tokens ours merges with those of the target
    for side in ("source", "target") if before.source_attributions is not None else ("target",):
        texts = [token.text for token in getattr(found, side)]
        assert texts == expected.get(side, [token.text for token in getattr(before, side)])
    for name in ("attr_pos_start", "attr_pos_end"):
        assert getattr(found, name) == expected.get(name, getattr(before, name)), name
    for name in ("source_attributions", "target_attributions"):
        wanted = array(expected[name]) if name in expected else getattr(before, name)
        assert (wanted is None) == (getattr(found, name) is None), name
        if wanted is not None:
            np.testing.assert_allclose(getattr(found, name), wanted, atol=ATOL, rtol=1e-5, err_msg=name)
    for name in ("step_scores", "sequence_scores"):
        wanted = (
            {key: array(value) for key, value in expected[name].items()} if name in expected else getattr(before, name)
        )
        assert getattr(found, name).keys() == wanted.keys()
        for key, values in wanted.items():
            np.testing.assert_allclose(getattr(found, name)[key], values, atol=ATOL, rtol=1e-5, err_msg=key)


def as_inseq(options):
    """Inseq leaves the last token of a sequence by itself, and special tokens in words."""
    given = {key: untagged(value) for key, value in options.items()}
    chain = given.get("aggregator")
    if chain and "subwords" in str(chain):
        given["keep_last"] = True
    return given


def assert_case(case, found, before):
    try:
        assert_equal(found, case["expected"], before)
    except AssertionError as error:
        raise AssertionError(f"{case['kind']}, {case.get('options')}: {error}") from error


def test_every_call_of_aggregate_gives_the_numbers_of_inseq(results, cases):
    checked = 0
    for case in (case for case in cases if "options" in case):
        before, _ = results[case["kind"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = before.aggregate(**as_inseq(case["options"]))
        assert_case(case, found, before)
        checked += 1
    assert checked > 150


def pair_of(written, like):
    """The other result of a pair, from its golden numbers."""
    return Attribution(
        source=[Token(text, 0) for text in written["source"]],
        target=[Token(text, 0) for text in written["target"]],
        dims=like.dims,
        attr_pos_start=written["attr_pos_start"],
        attr_pos_end=written["attr_pos_end"],
        **{name: array(written[name]) for name in ("source_attributions", "target_attributions")},
        **{
            name: {key: array(value) for key, value in written[name].items()}
            for name in ("step_scores", "sequence_scores")
        },
    )


def test_pairs_slices_and_weights_give_the_numbers_of_inseq(results, cases):
    done = []
    for case in cases:
        before, _ = results[case["kind"]]
        if "pair" in case:
            assert_case(case, before - pair_of(case["pair"], before), before)
        elif "slice" in case:
            start, stop = case["slice"]
            found = before[start:stop]
            expected = {name: value for name, value in case["expected"].items() if name != "sequence_scores"}
            assert_case({**case, "expected": {**expected, "sequence_scores": {}}}, without_sequences(found), before)
        elif "weight" in case:
            expected = {name: value for name, value in case["expected"].items() if name != "sequence_scores"}
            found = before.weight_attributions(case["weight"])
            assert_case({**case, "expected": {**expected, "sequence_scores": {}}}, without_sequences(found), before)
        else:
            continue
        done.append(case["kind"])
    assert len(done) == 18


def without_sequences(found):
    """Inseq slices one axis of a decoder's own scores only, and leaves them as they are where it weights the others."""
    return dataclasses.replace(found, sequence_scores={})


def test_dicts_of_scores_are_those_of_inseq(results, cases):
    for case in (case for case in cases if "dicts" in case):
        found = results[case["kind"]][0].get_scores_dicts()
        for name, table in case["dicts"].items():
            wanted = {tuple(key): {k if isinstance(k, str) else tuple(k): v for k, v in row} for key, row in table}
            assert found[name].keys() == wanted.keys()
            for key, row in wanted.items():
                numbers = {inner: math.nan if value is None else value for inner, value in row.items()}
                assert found[name][key] == pytest.approx(numbers, abs=ATOL, nan_ok=True)


def test_merged_info_is_that_of_inseq(results, golden_results):
    parts = [Attributions((one,), info) for one, info in list(results.values())[:2]]
    merged = merge(parts)
    assert len(merged) == 2
    assert merged.info == golden_results["aggregated"]["merged_info"]
    assert (parts[0] + parts[1]).info == sum(parts).info == merged.info
