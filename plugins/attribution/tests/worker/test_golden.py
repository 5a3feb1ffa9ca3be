"""Inseq's own numbers (``../golden``): every gradient method and occlusion, every target and aggregation."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from attribution_golden import reading, tiny

import interpd_client
from interpd_attribution import worker
from interpd_attribution.worker.gradient import sampled

METHODS = {
    "saliency": "saliency",
    "input_x_gradient": "input_x_gradient",
    "integrated_gradients": "integrated_gradients",
    "deeplift": "gradient_x_difference",
    "sequential_integrated_gradients": "sequential_integrated_gradients",
    "discretized_integrated_gradients": "discretized_integrated_gradients",
    "layer_gradient_x_activation": "layer_gradient_x_activation",
    "layer_integrated_gradients": "layer_integrated_gradients",
    "layer_deeplift": "layer_gradient_x_difference",
    "occlusion": "occlusion",
}
"""Inseq's ids, and ours."""

WITHOUT_BASELINE = ("saliency", "input_x_gradient", "layer_gradient_x_activation")
ATOL, RTOL = 1e-6, 1e-4


def shared_models():
    folder = Path(os.environ.get("INTERPD_SHARED", Path(__file__).resolve().parents[5] / "shared"))
    return folder / "models"


def served(name):
    if name in tiny.NAMES:
        return tiny.model(name), tiny.tokenizer(name)
    folder = shared_models() / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return str(folder)


def constants_of(case):
    """Our constants for the case."""
    told, golden = case.arguments, case.golden
    found = {
        "start": case.start,
        "target": target_of(case),
        "inputs": "all" if case.attribute_target or not golden.is_encoder_decoder else "source",
    }
    if case.method not in WITHOUT_BASELINE:
        sides = ("source", "target") if golden.is_encoder_decoder else ("target",)
        ids = [id_ for side in sides for id_ in case.sequence(side).baseline_ids]
        found |= {"baseline": "ids", "baseline_ids": tuple(ids)}
    if case.method in ("integrated_gradients", "sequential_integrated_gradients", "layer_integrated_gradients"):
        found |= {"n_steps": told["n_steps"], "rule": told.get("method", "gausslegendre")}
    if case.method == "discretized_integrated_gradients":
        found |= {"strategy": told.get("method", "greedy"), "n_steps": told["n_steps"]}
    if "multiply_by_inputs" in told:
        found["multiply_by_inputs"] = told["multiply_by_inputs"]
    if "abs" in told:
        found["absolute"] = told["abs"]
    if told.get("return_convergence_delta"):
        found["convergence_delta"] = True
    if case.method == "occlusion":
        found["absolute"] = True
        if "strides" in told:
            found |= {"window": told["sliding_window_shapes"][0], "stride": told["strides"][0]}
    if "target_layer" in told:
        found["sites"] = (f"{told['target_layer']}.output",)
        # a layer method's baseline and positions are those of its side
        found.pop("inputs")
        found["inputs"] = "source" if golden.is_encoder_decoder else "all"
    return {**found, **contrast_of(case)}


def target_of(case):
    options = {key: value for key, value in case.target_arguments.items() if key != "contrast_force_inputs"}
    written = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{case.target}({written})" if written else case.target


def contrast_of(case):
    if case.contrast is None:
        return {}
    found = {}
    if case.target_arguments.get("contrast_force_inputs"):
        found["contrast_force_inputs"] = True
    if case.golden.is_encoder_decoder and case.contrast == "elsewhere":
        return {**found, "contrast_source_ids": case.sequence("source_elsewhere").ids}
    found["contrast_ids"] = case.sequence(case.contrast).ids
    if case.alignments:
        aligned = dict(reversed(case.alignments))
        found["contrast_positions"] = tuple(aligned[at] for at in range(case.start, len(case.sequence("target").ids)))
    return found


def aggregated(vectors, suffix, n_source):
    """The vectors as the golden case has them, (source, target)."""
    if suffix == "raw":
        scores = vectors
    elif suffix == "sum":
        scores = vectors.sum(-1)
    else:
        lengths = np.linalg.norm(vectors, axis=-1)
        with np.errstate(invalid="ignore"):
            scores = lengths / np.nansum(lengths, axis=0)
    return scores[:n_source], scores[n_source:]


def is_comparable(case):
    """Whether Inseq computes there what it says.

    * The baseline of ``layer_integrated_gradients`` and ``layer_deeplift`` is embedded like the input: scores are zero.
    * ``layer_gradient_x_activation`` of a contrast in another context holds the layer of that pass, which comes last.
    * Two models have ReLU modules, for which Captum's DeepLIFT has its rule: it is not gradient times difference there.
    """
    if case.raises or case.method not in METHODS or case.method in ("layer_integrated_gradients", "layer_deeplift"):
        return False
    is_forced = bool(case.target_arguments.get("contrast_force_inputs"))
    if case.method == "layer_gradient_x_activation" and is_forced:
        return False
    return not (case.method == "deeplift" and case.model in ("tiny-t5", "aren-transliteration"))


def groups(name):
    """Cases that differ in their aggregation only."""
    known = [case for case in reading.golden(name).cases if is_comparable(case)]
    asked = lambda case: case.id.rpartition("/")[0] if case.aggregation else case.id  # noqa: E731
    return [list(found) for _, found in itertools.groupby(known, lambda case: asked(case).removesuffix("/raw"))]


def mismatches(model, name, methods=tuple(METHODS)):
    """The ids of cases whose numbers are others, and by how much."""
    golden = reading.golden(name)
    target = golden.sequence("target").ids
    source = golden.sequence("source").ids if golden.is_encoder_decoder else target
    sides = {"target": list(target[1:])} if golden.is_encoder_decoder else {}
    found = []
    for cases in groups(name):
        if cases[0].method not in methods:
            continue
        with model.trace(list(source), **sides) as t:
            constants = {**constants_of(cases[0]), "step_scores": ("probability",)}
            gives = "" if cases[0].method == "occlusion" else "_vectors"
            t.save(out=t.op(f"attribution.{METHODS[cases[0].method]}{gives}", **constants))
        vectors, (likely,) = t.result["out"].scores, t.result["out"].step_scores
        deltas = None if "layer" in cases[0].method else t.result["out"].deltas
        vectors = {2: vectors[..., None], 3: vectors, 4: vectors[0]}[vectors.ndim]
        is_short = cases[0].arguments.get("method") == "riemann_trapezoid"
        if is_short:
            # Captum's weights add up to 1 - 1 / n_steps
            vectors = vectors * (1 - 1 / cases[0].arguments["n_steps"])
        # where token and foil are one there is nothing to attribute, and Inseq divides by it; the gradient of a
        # probability near one has no digits in float32
        told = (np.nanmax(np.abs(vectors), axis=(0, 2)) > 1e-8) & (likely < 0.999)
        made_of = np.nanmax(np.abs(vectors).sum(-1))
        for case in cases:
            suffix = "sum" if case.method == "occlusion" else case.suffix
            size = 1.0 if suffix == "l2" else made_of
            if case.method == "occlusion":
                # differences of log-probabilities and logits, which Inseq takes in float32
                size = max(size, 5.0)
            if "deltas" in case.step_scores and not is_short:
                theirs = case.step_scores["deltas"]
                if case.method == "discretized_integrated_gradients":
                    # Inseq takes the two ends of these paths for each other: the sum and the change, not less it
                    theirs = 2 * np.nansum(vectors, axis=(0, 2)) - theirs
                # what the vectors add up to, however they are aggregated, less what Inseq has in float32
                if not alike(deltas[0][told], theirs[told], max(made_of, 5.0)):
                    found.append(f"{case.id}, deltas: {np.nanmax(np.abs(deltas[0] - theirs)):.2g}")
            ours = aggregated(vectors, suffix, len(source) if golden.is_encoder_decoder else 0)
            for one, theirs in zip(ours, (case.source_scores, case.target_scores), strict=True):
                if theirs is not None and not alike(one[: len(theirs)][:, told], theirs[:, told], max(size, 1.0)):
                    found.append(f"{case.id}: {np.nanmax(np.abs(one[: len(theirs)] - theirs)):.2g} of {size:.2g}")
    return found


def score_mismatches(model, name):
    """The ids of cases of step functions as scores, and of parts of the sequence, whose numbers are others.

    Inseq's divergences over few tokens are NaN.
    """
    golden, found = reading.golden(f"{name}.scores"), []
    for case in golden.cases:
        if case.raises or case.id in ("free", "continued", "kl-top-k", "kl-top-p"):
            continue
        constants, method = {"start": case.start}, "dummy"
        if "scores" in case.told:
            names = case.told["scores"]
            constants |= {
                "step_scores": tuple(scored(one, case.told.get("arguments", {})) for one in names),
                **contrast_of(case),
            }
        elif "asked" in case.told:
            method, constants = "saliency", {"absolute": False, "reduce": "sum", **positions_of(case)}
        else:
            method = "integrated_gradients"
            constants |= {"target": "logit", "reduce": "sum", "n_steps": 10}
            constants["include_eos_baseline"] = case.told["include_eos_baseline"]
        target = golden.sequence(case.told.get("of", "target")).ids
        source = golden.sequence("source").ids if golden.is_encoder_decoder else target
        sides = {"target": list(target[1:])} if golden.is_encoder_decoder else {}
        with model.trace(list(source), **sides) as t:
            t.save(out=t.op(f"attribution.{method}", **constants))
        out, n_source = t.result["out"], len(source) if golden.is_encoder_decoder else 0
        wanted = [case.step_scores[one] for one in case.told.get("scores", ())]
        pairs = list(zip(out.step_scores, wanted, strict=True))
        pairs += [] if method == "dummy" else [(out.scores[:n_source], case.source_scores)]
        pairs += [] if method == "dummy" else [(out.scores[n_source:], case.target_scores)]
        for one, theirs in pairs:
            # as of occlusion: differences of log-probabilities and logits, which Inseq takes in float32
            if theirs is not None and not alike(one[: len(theirs)], theirs, max(10.0, np.nanmax(np.abs(theirs)))):
                found.append(f"{case.id}: {np.nanmax(np.abs(one[: len(theirs)] - theirs)):.2g}")
    return found


def scored(name, arguments):
    """A step function with the options of a case; Inseq's perplexity is 2 to the power of nats."""
    options = {key: value for key, value in arguments.items() if key != "given"}
    options |= {"base": 2.0} if name == "perplexity" else {}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})" if options else name


def positions_of(case):
    """What was attributed; a decoder of Inseq takes the position of the end as well."""
    start, stop = case.told["asked"]
    start = case.start if start is None else start
    if not case.golden.is_encoder_decoder:
        return {"start": start} | ({} if stop is None else {"stop": stop})
    return {"start": start, "inputs": "all"} | ({} if stop is None else {"stop": stop + 1})


def alike(one, theirs, size):
    """Whether these are the same numbers, made of others of about that size."""
    return np.allclose(one, theirs, RTOL, ATOL * size, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*tiny.NAMES, *reading.REAL])
def test_numbers_are_inseqs(name):
    with interpd_client.local(served(name), plugins={"attribution": worker}, name="model") as client:
        assert mismatches(client.model("model"), name) == []


class Drawn:
    """torch, whose uniform numbers are given."""

    def __init__(self, numbers):
        self._numbers = torch.tensor(numbers)

    def __getattr__(self, name):
        return getattr(torch, name)

    def rand(self, *size, **_):
        """The numbers."""
        return self._numbers.reshape(size)


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.NAMES)
def test_gradient_shap_is_inseqs_at_its_places(monkeypatch, name):
    """Inseq draws places for each token anew, and has written them down."""
    golden = reading.golden(name)
    target = golden.sequence("target").ids
    source = golden.sequence("source").ids if golden.is_encoder_decoder else target
    sides = {"target": list(target[1:])} if golden.is_encoder_decoder else {}
    baselines = [golden.sequence(side).baseline_ids for side in (["source"] if sides else []) + ["target"]]
    cases = reading.cases(name, "gradient_shap", "logit", suffix="sum", attribute_target=False)
    assert cases
    with interpd_client.local(served(name), plugins={"attribution": worker}, name="model") as client:
        for case in cases:
            for step, places in enumerate(case.arrays["alphas"]):
                at = {"start": case.start + step, "stop": case.start + step + 1, "n_samples": len(places)}
                monkeypatch.setattr(sampled, "torch", Drawn(places))
                with client.model("model").trace(list(source), **sides) as t:
                    ids = {"baseline": "ids", "baseline_ids": tuple(itertools.chain(*baselines))}
                    inputs = {"inputs": "source"} if sides else {}
                    t.save(out=t.op("attribution.gradient_shap", target="logit", reduce="sum", **at, **ids, **inputs))
                found = t.result["out"].scores[:, 0]
                wanted = (case.source_scores if sides else case.target_scores)[:, step]
                assert alike(found[: len(wanted)], wanted, max(1.0, np.nanmax(np.abs(wanted))))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*tiny.NAMES, *reading.REAL])
def test_scores_of_steps_are_inseqs(name):
    with interpd_client.local(served(name), plugins={"attribution": worker}, name="model") as client:
        assert score_mismatches(client.model("model"), name) == []


@pytest.mark.slow
def test_saliency_is_inseqs():
    with interpd_client.local(served("tiny-t5"), plugins={"attribution": worker}, name="model") as client:
        assert mismatches(client.model("model"), "tiny-t5", ("saliency",)) == []


@pytest.mark.slow
def test_scaled_embeddings_give_the_models_own_predictions():
    """Of all models here only this one scales; its ids are the reference."""
    name = "aren-transliteration"
    golden, folder = reading.golden(name), served(name)
    source, target = (golden.sequence(side).ids for side in ("source", "target"))
    with interpd_client.local(folder, plugins={"attribution": worker}, name="model") as client:
        with client.model("model").trace(list(source), target=list(target[1:])) as t:
            p = t.logits[0, :-1].softmax(-1)
            t.save(out=t.op("attribution.saliency", step_scores=("probability",)), p=p)
        found = t.result["out"].step_scores[0]
    np.testing.assert_allclose(found, t.result["p"][range(len(target) - 1), target[1:]], rtol=1e-4)
    wanted = reading.golden(f"{name}.scores").case("plain").step_scores["probability"]
    np.testing.assert_allclose(found, wanted, RTOL, ATOL)
