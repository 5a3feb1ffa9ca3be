"""Edits in traces and generations, against the bare model with its modules edited by hand, in float64."""

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_backpack.edits import (
    AddDelta,
    Edit,
    Fingerprint,
    MaskWeights,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Set,
    Topic,
    Transplant,
)

TEXT, OTHER = "The nurse said that the doctor was happy", "The dog ran and sat"
EXACT = {"rtol": 0, "atol": 1e-9}
VECTOR = np.linspace(-1, 1, 24)

OPERATIONS = {
    "scale": (Scale("nurse", 2, -0.3),),
    "scale several": (Scale(["nurse", "doctor"], (0, 3), 1.7),),
    "scale all": (Scale("all", 1, 0.5),),
    "remove": (Remove("nurse", "all"),),
    "replace": (ReplaceAssociation("nurse", "she", "he"),),
    "replace in some senses": (ReplaceAssociation("nurse", "she", "he", (0, 2)),),
    "transplant": (Transplant("nurse", "doctor", (1, 2)),),
    "project a pair": (ProjectOut("all", ("she", "he")),),
    "project a share of a vector": (ProjectOut(["nurse", "the"], VECTOR, (0, 1), share=0.4),),
    "delta": (AddDelta("nurse", 3, VECTOR),),
    "set": (Set("doctor", 0, VECTOR),),
    "weights of tokens": (MaskWeights("nurse", (0, 1), 0.2),),
    "all of them": (
        *(Scale("all", "all", 1.1), Transplant("nurse", "doctor", 0), ProjectOut("all", ("she", "he"), (0, 1))),
        *(Remove("doctor", 1), AddDelta("nurse", 0, VECTOR), ReplaceAssociation("nurse", "she", "Paris")),
        *(Scale("nurse", (0, 2), -2), Set("doctor", 3, VECTOR), ProjectOut("all", VECTOR, share=0.5)),
    ),
}


def of_tokens(operations):
    """Weights given to tokens as a scale of senses."""
    return [Scale(one.tokens, one.senses, one.factor) if isinstance(one, MaskWeights) else one for one in operations]


def built(part, operations, name="edit"):
    return part.edit(*operations, name=name, on_conflict="allow")


def under(model, part, edit, text=TEXT):
    """(logits ``[pos V]``, sense weights) under an edit."""
    with model.trace(text) as t:
        if edit is not None:
            part.with_edit(t, edit)
        t.save(logits=t.logits[0], weights=t.sense_weights[0])
    return t.result["logits"], t.result["weights"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "all of them" else pytest.mark.slow) for name in OPERATIONS]
)
def test_an_operation_does_what_editing_the_module_by_hand_does(name, model, part, plain):
    edit = built(part, OPERATIONS[name])
    logits, weights = under(model, part, edit)
    ids = plain.ids(TEXT)
    np.testing.assert_allclose(logits, plain.logits(ids, plain.table(of_tokens(edit.operations))), **EXACT)
    own, own_weights = under(model, part, None)
    assert np.abs(logits - own).max() > 1e-3
    assert np.array_equal(weights, own_weights)


@pytest.mark.slow
def test_the_order_of_operations_is_that_of_the_list(model, part, plain):
    one, other = Scale("nurse", 0, 3), AddDelta("nurse", 0, VECTOR)
    found = {}
    for order in ((one, other), (other, one)):
        edit = built(part, order)
        found[order] = under(model, part, edit)[0]
        np.testing.assert_allclose(found[order], plain.logits(plain.ids(TEXT), plain.table(edit.operations)), **EXACT)
    assert np.abs(found[one, other] - found[other, one]).max() > 1e-3


@pytest.mark.slow
def test_scaling_senses_is_scaling_the_weights_of_their_token(model, part, plain):
    ids, nurse = plain.ids(TEXT), plain.id("nurse")
    here = (ids[0] == nurse).nonzero()[:, 0]

    def weigh(weights):
        weights = weights.clone()
        weights[:, 2, :, here] *= 0.25
        return weights

    by_weights = plain.logits(ids, weigh=weigh)
    for operation in (Scale("nurse", 2, 0.25), MaskWeights("nurse", 2, 0.25), MaskWeights(None, 2, 0.25, (int(here),))):
        np.testing.assert_allclose(under(model, part, built(part, [operation]))[0], by_weights, **EXACT)


def test_what_is_added_gives_the_new_word_the_logit_of_the_old_one(model, part, plain):
    edit = built(part, [ReplaceAssociation("nurse", "she", "he")])
    (one,) = edit.operations
    with model.trace(TEXT) as t:
        part.with_edit(t, edit)
        t.save(after=t.senses[0])
    here = int((plain.ids(TEXT)[0] == one.target.id).nonzero())
    before, after = plain.senses[one.target.id], t.result["after"][:, here]
    she, he = plain.rows[one.remove.id], plain.rows[one.add.id]
    removed = (before @ she / (she @ she))[:, None] * she
    np.testing.assert_allclose((after - before + removed) @ he, before @ she, **EXACT)


def test_a_prompt_without_the_token_keeps_every_bit(model, part):
    edit = built(part, OPERATIONS["replace"])
    alone = under(model, part, None, OTHER)
    edited = under(model, part, edit, OTHER)
    assert all(np.array_equal(one, other) for one, other in zip(alone, edited, strict=True))


@pytest.mark.slow
def test_an_inverse_restores(model, part):
    edit = built(
        part,
        [
            *(Scale("nurse", 0, 4), AddDelta("nurse", 1, VECTOR), ProjectOut("all", ("she", "he"), share=0.5)),
            *(MaskWeights("doctor", 2, 3), Topic(["he", "she"], 3)),
        ],
    )
    there, own = under(model, part, edit)[0], under(model, part, None)[0]
    assert np.abs(there - own).max() > 1e-3
    np.testing.assert_allclose(under(model, part, edit + edit.inverse())[0], own, **EXACT)


def test_edits_of_several_prompts_in_one_pass_are_as_alone_and_leave_others_alone(model, part):
    first, second = built(part, OPERATIONS["replace"], "a"), built(part, OPERATIONS["all of them"], "b")
    texts = ((TEXT, first), (TEXT, second), (TEXT, None), (OTHER, None), (OTHER, second))
    with model.trace() as t:
        prompts = [t.prompt(text) for text, _ in texts]
        for prompt, (_, edit) in zip(prompts, texts, strict=True):
            if edit is not None:
                part.with_edit(prompt, edit)
        t.save(logits=[prompt.logits[0] for prompt in prompts])
    with model.trace() as others:
        prompts = [others.prompt(text) for text, _ in texts]
        others.save(logits=[prompt.logits[0] for prompt in prompts])
    together, unedited = t.result["logits"], others.result["logits"]
    for number, (text, edit) in enumerate(texts):
        np.testing.assert_allclose(together[number], under(model, part, edit, text)[0], **EXACT)
        if edit is None:
            assert np.array_equal(together[number], unedited[number])


def test_generations_are_edited_at_every_step(model, part, plain):
    edit = built(part, OPERATIONS["all of them"])
    with model.generate(TEXT, max_new_tokens=5) as t:
        part.with_edit(t, edit)
        t.save(last=t.logits[0, -1])
    ids = torch.cat([plain.ids(TEXT), torch.tensor([t.result.generated[0].token_ids[:-1]])], -1)
    np.testing.assert_allclose(t.result["last"], plain.logits(ids, plain.table(edit.operations))[-5:], **EXACT)


@pytest.mark.slow
def test_weights_of_positions_are_multiplied(model, part, plain):
    edit = built(part, [MaskWeights(positions=(2, 3), senses=(0, 3), factor=-0.5)])

    def weigh(weights):
        weights = weights.clone()
        weights[:, [[0], [3]], :, [2, 3]] *= -0.5
        return weights

    logits, weights = under(model, part, edit)
    np.testing.assert_allclose(logits, plain.logits(plain.ids(TEXT), weigh=weigh), **EXACT)
    np.testing.assert_allclose(weights, weigh(torch.tensor(plain.weights(plain.ids(TEXT)))[None])[0], **EXACT)


@pytest.mark.slow
def test_a_position_that_is_not_there_is_refused(model, part):
    with pytest.raises(CallerError, match="the edit is about position 30, the text has 9 tokens"):
        under(model, part, built(part, [MaskWeights(positions=(30,))]))


def low_contributions(plain, ids, one):
    """Logits with contributions reweighted as the published code does: one (token, sense) after the other."""
    weights, logits = plain.weights(ids), plain.logits(ids)
    for place, token in enumerate(ids[0].tolist()):
        for sense in one.senses if token in [named.id for named in one.tokens] else ():
            says = plain.rows @ plain.senses[token, sense]
            weighted = one.factor * says
            kept = np.where(weighted < np.quantile(weighted, one.negative_only), weighted, says)
            logits = logits + weights[sense, :, place, None] * (kept - says)
    return logits


@pytest.mark.slow
def test_only_what_a_sense_speaks_against_is_reweighted(model, part, plain):
    edit = built(part, [MaskWeights(["nurse", "the"], (1, 3), 2.5, negative_only=0.1)])
    (one,) = edit.operations
    logits, _ = under(model, part, edit)
    np.testing.assert_allclose(logits, low_contributions(plain, plain.ids(TEXT), one), **EXACT)
    assert np.abs(logits - under(model, part, None)[0]).max() > 1e-3


@pytest.mark.slow
def test_reweighted_contributions_hold_in_generations(model, part, plain):
    edit = built(part, [MaskWeights(["nurse", "the"], (0, 1, 2, 3), 9, negative_only=0.3)])
    (one,) = edit.operations
    with model.generate(TEXT, max_new_tokens=3) as t:
        part.with_edit(t, edit)
        t.save(last=t.logits[0, -1])
    ids = torch.cat([plain.ids(TEXT), torch.tensor([t.result.generated[0].token_ids[:2]])], -1)
    np.testing.assert_allclose(t.result["last"], low_contributions(plain, ids, one)[-3:], **EXACT)


def test_edits_of_another_model_are_refused(model, part):
    base = Fingerprint("sha256:others", 94, 4, 24)
    with (
        pytest.raises(CallerError, match="is not of the model 'backpack': its revision is sha256:others"),
        model.trace(TEXT) as t,
    ):
        part.with_edit(t, Edit([Scale(3, 0, 2)], "foreign", base))


def test_an_edit_under_an_adapter_is_refused(model, part):
    edit = built(part, [Scale("nurse", 0, 2)])
    for t in (model.trace(TEXT, adapter="tuned"), model.trace(adapter="tuned").prompt(TEXT)):
        with pytest.raises(CallerError, match="the adapter 'tuned' is in force"):
            part.with_edit(t, edit)


def test_a_second_edit_in_a_prompt_is_refused(model, part):
    first, second = (built(part, [Scale("nurse", 0, factor)], f"{factor}") for factor in (2, 3))
    t = model.trace(TEXT)
    part.with_edit(t, first)
    with pytest.raises(CallerError, match="an edit is in force in this prompt already"):
        part.with_edit(t, second)


@pytest.mark.slow
def test_an_edit_is_uploaded_and_compiled_once(model, part):
    edit = built(part, [Scale("nurse", 0, 0.123)])
    before = {one.name for one in model.artifacts()}
    for _ in range(2):
        under(model, part, edit)
    made = sorted({one.name for one in model.artifacts()} - before)
    name = f"edit-{edit.digest.removeprefix('sha256:')}"
    assert made == [name, f"{name}.compiled.float64"]


def test_one_prompt_of_many_under_an_edit_asks_for_it(model, part, monkeypatch):
    edit, asked = built(part, [Scale("nurse", 0, 0.123)]), []
    listed = type(model).artifacts
    monkeypatch.setattr(type(model), "artifacts", lambda self: asked.append(1) or listed(self))
    under(model, part, edit)
    for n_prompts in (1, 3):
        asked.clear()
        with model.trace() as t:
            prompts = [t.prompt(TEXT) for _ in range(n_prompts)]
            for prompt in prompts:
                part.with_edit(prompt, edit)
            t.save(logits=[prompt.logits[0, -1] for prompt in prompts])
        assert len(asked) == 1
