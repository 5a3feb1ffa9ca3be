"""Attention and value zeroing: Inseq's own numbers (``../golden``), and the bare models'."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from attribution_golden import reading, tiny

import interpd_client
from interpd.errors import InterpdError
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker

REST = (*tiny.NAMES[1:], *reading.REAL)
ATOL, RTOL = 1e-6, 1e-4
ROUNDED = 5e-4
"""Shares of value zeroing: one minus a cosine near one has few digits in float32, in which Inseq takes it, and one may
come to lie on the other side of the threshold."""


def close(found, expected, atol=ATOL):
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=atol)


def ask(client_model, golden, method, **constants):
    target = golden.sequence("target").ids
    source = golden.sequence("source").ids if golden.is_encoder_decoder else target
    sides = {"target": list(target[1:])} if golden.is_encoder_decoder else {}
    with client_model.trace(list(source), **sides) as t:
        t.save(out=t.op(f"attribution.{method}", start=golden.start, **constants))
    return t.result["out"]


def as_inseq(values):
    """``[feature step layer ...]`` of ``[layer ... feature step]``."""
    return np.moveaxis(values, (-2, -1), (0, 1))


def check(out, case, atol=ATOL):
    """The result has the case's scores: those of source and target, and those between positions of one side."""
    n_source = len(case.sequence("source").ids) if case.golden.is_encoder_decoder else 0
    found = as_inseq(out.scores)
    for mine, theirs in ((found[:n_source], case.source_scores), (found[n_source:], case.target_scores)):
        if theirs is not None:
            close(mine[: len(theirs)], theirs, atol)
    for name in ("encoder_self", "decoder_self"):
        for key, theirs in case.arrays.items():
            if key.startswith(f"sequence.{name}"):
                mine = as_inseq(getattr(out, name))[: theirs.shape[0], : theirs.shape[1]]
                close(np.nan_to_num(mine), np.nan_to_num(theirs), atol)


def zeroed(case):
    """Inseq's arguments as ours: a number, a span, a list, or heads by layer."""
    found = {}
    for name, value in case.arguments.items():
        if not name.endswith("indices"):
            found[name] = value
            continue
        stem = name.removesuffix("_indices")
        if isinstance(value, dict):
            pairs = [(int(layer), head) for layer, heads in value.items() for head in heads]
            found[f"{stem}_layers"], found[name] = zip(*pairs, strict=True)
        else:
            # a pair in parentheses is a span, which the file does not tell from a list
            is_span = case.id.startswith("heads-0-to-2")
            found[name] = (value,) if isinstance(value, int) else tuple(range(*value) if is_span else value)
    return found


@pytest.fixture(scope="module", params=[tiny.NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def golden_model(request):
    """(name, model) of those that have golden numbers."""
    name = request.param
    folder = Path(os.environ.get("INTERPD_SHARED", Path(__file__).resolve().parents[5] / "shared")) / "models" / name
    if name not in tiny.NAMES and not folder.is_dir():
        pytest.skip(f"no {folder}")
    made = (tiny.model(name), tiny.tokenizer(name)) if name in tiny.NAMES else str(folder)
    with interpd_client.local(made, plugins={"attribution": worker}, name="model") as client:
        yield name, client.model("model")


def test_attention_is_inseqs(golden_model):
    name, model = golden_model
    golden = reading.golden(name)
    for case in golden.cases:
        if case.method == "attention" and case.suffix == "raw":
            inputs = "all" if case.attribute_target or not golden.is_encoder_decoder else "source"
            check(ask(model, golden, "attention", inputs=inputs), case)


def test_value_zeroing_is_inseqs(golden_model):
    name, model = golden_model
    golden = reading.golden(f"{name}.value-zeroing")
    for case in golden.cases:
        if case.suffix != "raw" or case.raises:
            continue
        inputs = "all" if case.attribute_target or not golden.is_encoder_decoder else "source"
        check(ask(model, golden, "value_zeroing", inputs=inputs, **zeroed(case)), case, ROUNDED)


def test_reduced_where_the_model_is(world):
    whole = world.trace("attention").scores
    mean = world.trace("attention", heads_reduce="mean", layers_reduce="max").scores
    assert mean.shape == (1, 1, *whole.shape[2:])
    close(mean[0, 0], whole.mean(1).max(0))
    chosen = world.trace("attention", layers=(-1, 0), heads=(2, 0), heads_reduce="sum").scores
    close(chosen[:, 0], whole[[-1, 0]][:, [2, 0]].sum(1))
    close(
        world.trace("value_zeroing", layers=(1, 0), layers_reduce="mean").scores[0],
        world.trace("value_zeroing").scores[:2].mean(0),
    )


def test_attention_of_a_model_that_was_loaded_with_another_implementation(gpt2):
    assert gpt2.model.config._attn_implementation != "eager"
    shown = gpt2.trace("attention").scores
    gpt2.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            weights = gpt2.model(torch.tensor([gpt2.target]), output_attentions=True).attentions
    finally:
        gpt2.model.set_attn_implementation("sdpa")
    expected = torch.cat(weights).transpose(-1, -2).numpy()[..., :-1]
    close(np.nan_to_num(shown), expected)


@pytest.mark.slow
def test_attention_of_a_model_that_was_loaded_with_eager_attention(gpt2):
    tiny = tiny_model("gpt2")
    tiny.model.set_attn_implementation("eager")
    with interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client:
        with client.model("tiny").trace(list(gpt2.target)) as t:
            t.save(out=t.op("attribution.attention"))
        close(t.result["out"].scores, gpt2.trace("attention").scores)


def test_features_and_spans_add_up(gpt2):
    whole = np.nan_to_num(gpt2.trace("attention").scores)
    features, spans = (0, 0, 1, -1, 2, 2, 2, 3), (0, 0, 0, 1, 1, -1, 1)
    found = np.nan_to_num(gpt2.trace("attention", features=features, spans=spans).scores)
    members = np.array(features)[None] == np.arange(4)[:, None]
    columns = np.array(spans)[None] == np.arange(2)[:, None]
    close(found, np.einsum("lhfs,gf,cs->lhgc", whole, members, columns))


def test_writes_of_the_graph_are_in_force(gpt2):
    with gpt2.prompt() as t:
        t.layers[1].attn.pattern = t.layers[1].attn.pattern * 0.5
        t.save(out=t.op("attribution.attention"))
    close(t.result["out"].scores[1], gpt2.trace("attention").scores[1] * 0.5)


def test_values_that_the_graph_takes_away_cannot_be_missed(gpt2):
    with gpt2.prompt() as t:
        t.layers[1].attn.v = t.layers[1].attn.v * 0
        t.save(out=t.op("attribution.value_zeroing"))
    scores = t.result["out"].scores
    assert np.nansum(scores[1]) == 0
    close(scores[0], gpt2.trace("value_zeroing").scores[0], ROUNDED)
    close(np.nansum(scores[2], 0), 1)


def without_a_value(world, layer, position):
    """The stream behind a layer of the bare GPT-2, without (or, ``None``: with) a position's values in that layer."""
    attention, found = world.model.transformer.h[layer].attn.c_attn, []

    def zero(module, args, output):
        output = output.clone()
        if position is not None:
            output[:, position, 48:] = 0
        return output

    handles = [
        attention.register_forward_hook(zero),
        world.model.transformer.h[layer].register_forward_hook(
            lambda module, args, output: found.append(output if torch.is_tensor(output) else output[0])
        ),
    ]
    try:
        with torch.no_grad():
            world.model(torch.tensor([world.target]))
    finally:
        for handle in handles:
            handle.remove()
    return found[0][0]


def test_distances_of_value_zeroing_are_those_of_the_bare_model(gpt2):
    whole = without_a_value(gpt2, 1, None)
    moved = torch.stack([without_a_value(gpt2, 1, at) - whole for at in range(8)]).norm(dim=-1)
    shares = (moved / moved.sum(0)).numpy()[:, :-1]
    close(np.nan_to_num(gpt2.trace("value_zeroing", similarity_metric="euclidean").scores[1]), shares)


def test_rows_of_a_pass_make_no_difference(world):
    whole = world.trace("value_zeroing")
    pieces = world.trace("value_zeroing", rows_per_pass=3)
    for one, other in zip(whole, pieces, strict=True):
        close(one, other, ROUNDED)


def test_no_hook_stays_behind(gpt2):
    def hooks():
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in gpt2.model.modules())

    before = hooks()
    gpt2.trace("value_zeroing")
    with pytest.raises(InterpdError, match="there is no 7"):
        gpt2.trace("value_zeroing", decoder_zeroed_units_indices=(7,))
    assert hooks() == before


@pytest.mark.parametrize(
    ("method", "constants", "message"),
    [
        ("attention", {"layers": (3,)}, "layers: there is no 3, only 0 to 2"),
        ("attention", {"heads": (0, -4)}, "named twice"),
        ("value_zeroing", {"cross_zeroed_units_indices": (0,)}, "no encoder"),
        ("value_zeroing", {"decoder_zeroed_units_layers": (0,)}, "1 layers for 0 heads"),
        ("value_zeroing", {"rows_per_pass": 1}, "expected 2 or more"),
    ],
)
def test_what_is_refused(gpt2, method, constants, message):
    with pytest.raises(InterpdError, match=message):
        gpt2.trace(method, **constants)


def test_a_result_that_is_too_large_is_refused_before_anything_is_computed(gpt2, monkeypatch):
    monkeypatch.setattr("interpd_attribution.worker.internals.maps.MOST_BYTES", 1000)
    with pytest.raises(InterpdError, match="heads_reduce='mean'"):
        gpt2.trace("attention")
    assert gpt2.trace("attention", heads_reduce="mean", layers_reduce="mean").scores.shape == (1, 1, 8, 7)


def test_a_model_without_sites_is_refused_by_name():
    tiny_granite = tiny_model("granite")
    with interpd_client.local((tiny_granite.model, tiny_granite.tokenizer), plugins={"attribution": worker}) as client:
        (name,) = (model.name for model in client.models())
        with pytest.raises(InterpdError, match="Granite"), client.model(name).trace([5, 6, 7]) as t:
            t.save(out=t.op("attribution.attention"))


def test_dummy_gives_step_scores_alone(gpt2):
    out = gpt2.trace("dummy", step_scores=("probability", "entropy"), start=4)
    close(out.step_scores, gpt2.trace("saliency", step_scores=("probability", "entropy"), start=4).step_scores)
    assert out.scores.shape == (8, 4)
    assert np.isnan(out.scores).all()
