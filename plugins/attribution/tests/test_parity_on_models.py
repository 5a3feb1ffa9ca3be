"""Inseq's results on tiny models, aggregated as by Inseq, and files that it wrote of them (``golden/make.py``)."""

import json
import warnings

import numpy as np
import pytest
from attribution_golden import reading

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.attributions import Attributions

SAVED = reading.DATA / "saved"
ATOL, RTOL = 1e-6, 1e-4
# JSON has lists only; these were tuples when the numbers were made
TUPLES = ("source_spans", "target_spans")
SPANS = ([2, 6], [0, 2])


def named(parts, kind):
    return {name.removeprefix(f"{kind}."): array for name, array in parts.items() if name.startswith(f"{kind}.")}


def result(case, dims):
    parts = case.arrays
    start, end = case.told["attr_pos"]
    return Attribution(
        source=[Token(text, 0) for text in case.told["source_tokens"]],
        target=[Token(text, 0) for text in case.told["target_tokens"]],
        source_attributions=parts.get("source"),
        target_attributions=parts.get("target"),
        dims=dims,
        step_scores=named(parts, "step"),
        sequence_scores=named(parts, "sequence"),
        attr_pos_start=start,
        attr_pos_end=end,
    )


def applied(one, pipeline, others):
    for aggregator, options in pipeline:
        given = {key: tupled(value) if key in TUPLES else value for key, value in options.items()}
        if given.get("select_idx") in SPANS:
            given["select_idx"] = tuple(given["select_idx"])
        if aggregator == "weight":
            one = one.weight_attributions(options["by"])
        elif aggregator == "pair":
            one = one - others[options["paired"]]
        elif aggregator == "subwords":
            # Inseq leaves the last token of a sequence by itself
            given["special_chars"] = tuple(given["special_chars"])
            one = one.aggregate(aggregator, keep_last=True, **given)
        else:
            one = one.aggregate(aggregator, **given)
    return one


def tupled(value):
    return [tuple(span) for span in value]


def is_rounding_only(name, case):
    """Gradients behind a layer norm sum to zero. Scaled, or compared by their magnitudes, the rest is chance."""
    steps = case.told["pipeline"]
    is_summed = steps[0][1].get("aggregate_fn") == "sum" and "select_idx" not in steps[0][1]
    return (
        name == "tiny-gpt2" and is_summed and (len(steps) > 1 or "rescale" in steps[0][1] or steps[0][1]["normalize"])
    )


def same(found, case):
    parts = case.arrays
    pairs = {"source": found.source_attributions, "target": found.target_attributions}
    pairs |= {f"step.{name}": values for name, values in found.step_scores.items()}
    for name, wanted in parts.items():
        if name in pairs:
            np.testing.assert_allclose(pairs[name], wanted, atol=ATOL, rtol=RTOL, err_msg=f"{case.id}: {name}")
    assert [token.text for token in found.target] == case.told["target_tokens"]
    assert [found.attr_pos_start, found.attr_pos_end] == case.told["attr_pos"]


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama", "tiny-t5"])
def test_aggregated_results_of_models_are_those_of_inseq(name):
    cases = {case.id: case for case in reading.golden(f"{name}.aggregation").cases}
    bases = {"saliency-signed": ("d_model",), "saliency-signed-elsewhere": ("d_model",), "attention": ("layer", "head")}
    made = {base: result(cases[base], dims) for base, dims in bases.items()}
    other = "saliency-signed-elsewhere"
    made[f"{other} after the same"] = made[other].aggregate("sum", normalize=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for case in cases.values():
            if case.told["of"] and not is_rounding_only(name, case):
                same(applied(made[case.told["of"]], case.told["pipeline"], made), case)


@pytest.mark.parametrize("name", reading.TINY)
def test_vectors_of_every_method_aggregate_to_the_scores_of_inseq(name):
    """By default to norms whose columns sum to one, by ``sum`` to signed scores."""
    cases = {case.id: case for case in reading.cases(name)}
    checked = 0
    for raw in (case for case in cases.values() if case.suffix == "raw"):
        for suffix, options in (("l2", {}), ("sum", {"aggregator": "sum", "normalize": False})):
            wanted = cases.get(raw.id.removesuffix("raw") + suffix)
            if wanted is not None:
                found = vectors(raw).aggregate(**options)
                for side, part in wanted.arrays.items():
                    ours = getattr(found, f"{side}_attributions", part)
                    np.testing.assert_allclose(ours, part, atol=ATOL, rtol=RTOL, err_msg=wanted.id)
                checked += 1
    assert checked >= 10


def vectors(case):
    """The result of a method that gives vectors; what its tokens are does not matter."""
    parts = [case.arrays.get(side) for side in ("source", "target")]
    n_generated = next(part for part in parts if part is not None).shape[1]
    n_tokens = [
        fallback if part is None else len(part) for part, fallback in zip(parts, (case.start, None), strict=True)
    ]
    n_tokens[1] = n_tokens[1] or case.start + n_generated
    source, target = ([Token(str(number), 0) for number in range(n)] for n in n_tokens)
    return Attribution(
        source, target, *parts, ("d_model",), attr_pos_start=case.start, attr_pos_end=case.start + n_generated
    )


def test_files_that_inseq_wrote_hold_what_inseq_reads_from_them():
    read = reading.golden("saved")
    for case in read.cases:
        path = SAVED / case.id
        if "primitives" in case.id:
            with pytest.raises(CallerError, match="use_primitives=True"):
                Attributions.load(path)
            continue
        loaded = Attributions.load(path)
        if "raises" in case.told:
            assert loaded[0].step_attributions, "Inseq cannot load steps, we can"
            continue
        one = loaded[0]
        assert [list(token) for token in one.target] == case.told["target_tokens"]
        assert [list(token) for token in one.source] == case.told["source_tokens"]
        assert sorted(loaded.info) == case.told["info_keys"]
        for name, wanted in case.arrays.items():
            got = {"source": one.source_attributions, "target": one.target_attributions}.get(name)
            if got is None:
                kind, _, key = name.partition(".")
                got = {"step": one.step_scores, "sequence": one.sequence_scores}[kind][key]
            np.testing.assert_array_equal(got[: len(wanted)], wanted, err_msg=f"{case.id}: {name}")


def test_dictionaries_of_scores_are_those_of_inseq():
    cases = json.loads((reading.DATA / "dictionaries.json").read_text(encoding="utf-8"))["cases"]
    for case in cases:
        # what was aggregated before it was saved has no axes left, so nothing is aggregated again
        found = Attributions.load(SAVED / f"{case['id']}.json").get_scores_dicts()
        for ours, theirs in zip(found, case["output"], strict=True):
            for name, table in theirs:
                wanted = {tuple(key): {tuple(k) if isinstance(k, list) else k: v for k, v in row} for key, row in table}
                assert ours[name].keys() == wanted.keys(), (case["id"], name)
                for key, row in wanted.items():
                    assert ours[name][key] == pytest.approx(row, abs=ATOL, rel=RTOL, nan_ok=True), (case["id"], name)
