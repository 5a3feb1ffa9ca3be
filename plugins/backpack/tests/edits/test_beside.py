"""What edits leave alone: the weights, the table of senses, and all rows beside them, to the last bit."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.edits import MaskWeights, Remove, ReplaceAssociation, Scale, Topic, Transplant

pytestmark = pytest.mark.slow

TEXTS = ("The nurse said that the doctor was happy", "The nurse said that the doctor was happy", "The dog ran and sat")
OPERATIONS = (
    *(Scale("all", "all", 1.7), Transplant("nurse", "doctor", 0), Topic(["music"], 2, anneal=True)),
    *(MaskWeights(positions=(1,), senses=2, factor=0.0), MaskWeights("the", 1, 9.0, negative_only=0.3)),
)


@pytest.fixture(scope="module")
def bare():
    return tiny_backpack()[0]


@pytest.fixture(scope="module")
def model(bare):
    with interpd_client.local((bare, tiny_backpack()[1]), name="tiny", plugins={"backpack": worker}) as client:
        yield client.model("tiny")


def written(model, edits):
    """(logits of each step, tokens) of each text, all in one generation."""
    with model.generate(max_new_tokens=6, ignore_eos=True) as t:
        prompts = [t.prompt(text) for text in TEXTS]
        for prompt, edit in zip(prompts, edits, strict=True):
            if edit is not None:
                model.backpack.with_edit(prompt, edit)
        t.save(logits=[prompt.logits[0, -1] for prompt in prompts])
    return list(zip(t.result["logits"], [one.token_ids for one in t.result.generated], strict=True))


def test_generations_beside_edits_keep_every_bit_and_so_do_weights_and_table(bare, model):
    edit = model.backpack.edit(*OPERATIONS, on_conflict="allow")
    other = model.backpack.edit(Remove("dog", "all"), ReplaceAssociation("nurse", "she", "he"))
    weights = {name: weight.clone() for name, weight in bare.state_dict().items()}
    alone = written(model, [None, None, None])
    table, known = bare.backpack.sense_table, bare.backpack.sense_table.n_known
    senses = table(torch.arange(91)).clone()
    assert known > 0
    for edits in ([None, edit, None], [edit, None, other], [other, edit, None]):
        for (logits, tokens), (own, own_tokens), one in zip(written(model, edits), alone, edits, strict=True):
            if one is None:
                assert np.array_equal(logits, own)
                assert tokens == own_tokens
            else:
                assert not np.array_equal(logits, own)
    assert all(torch.equal(weight, weights[name]) for name, weight in bare.state_dict().items())
    assert torch.equal(table(torch.arange(91)), senses)
    for (logits, tokens), (own, own_tokens) in zip(written(model, [None] * 3), alone, strict=True):
        assert np.array_equal(logits, own)
        assert tokens == own_tokens


def test_texts_longer_than_the_model_takes_are_refused_everywhere(model):
    edit, text = model.backpack.edit(Scale("nurse", 0, 2)), " the" * 40
    for ask in (
        lambda: model.backpack.effects(text, edit, targets="he"),
        lambda: model.backpack.contributions(text, "he"),
        lambda: model.backpack.generate("The nurse", [None, edit], max_new_tokens=40),
    ):
        with pytest.raises(CallerError, match="takes at most 32"):
            ask()
