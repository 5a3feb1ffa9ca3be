"""Many edits from one pass, against whole passes whose senses are edited by hand."""

import json

import numpy as np
import pytest
import torch
from backpack_tests.edits import brute
from backpack_tests.tiny import N_PADDING, tiny_backpack

import interpd_backpack.worker
import interpd_client
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
    fingerprint,
)

TEXTS = ("The nurse said that she", "The nurse was happy because the nurse", "a doctor ate fish")
DIRECTION = np.linspace(-1, 1, 24) ** 3
SHE, HE = 48, 47


@pytest.fixture(scope="module")
def here():
    with interpd_client.local(tiny_backpack(torch.float64), plugins={"backpack": interpd_backpack.worker}) as client:
        yield client.model("backpack")


@pytest.fixture(scope="module")
def bare():
    model, tokenizer = tiny_backpack(torch.float64)
    with torch.no_grad():
        senses = model.backpack.sense_table(torch.arange(model.config.vocab_size)).numpy()
    return model, [tokenizer(text).input_ids for text in TEXTS], senses


@pytest.fixture(scope="module")
def nurse(bare):
    return tiny_backpack()[1](" nurse", add_special_tokens=False).input_ids[0]


def made(here, *operations, name="e"):
    return Edit(operations, name, fingerprint(here.info))


def edits_of(here, nurse):
    return {
        "one sense of one word": made(here, Scale(nurse, 1, -0.5)),
        "all of all": made(here, Scale("all", "all", 1.3)),
        "in order": made(here, Scale(nurse, 2, 3.0), Transplant(nurse, 52, (1, 2)), Remove(nurse, 0)),
        "vectors": made(here, AddDelta(nurse, 3, DIRECTION), Set(50, 0, -DIRECTION), ProjectOut("all", DIRECTION, 2)),
        "association": made(here, ReplaceAssociation(nurse, 49, HE)),
        "weights of a word": made(here, MaskWeights(nurse, 2, 0.25)),
        "of no word there": made(here, Scale(70, "all", 0.0)),
    }


def asked(model, bare, edits, items, method="backpack.effects", ending=-1, **constants):
    _, ids, _ = bare
    table = np.full((len(ids), max(map(len, ids))), -1, np.int64)
    for row, own in enumerate(ids):
        table[row, : len(own)] = own
    spelled = [(json.dumps(one.to_json()), one._spelled_out[1]) for one in edits]
    vectors = np.concatenate([rows for _, rows in spelled])
    t = model.trace([0], progress=False)
    table[-1, -1] = ending
    ports = (table, np.array(items), vectors) if len(vectors) else (table, np.array(items))
    constants = {"edits": tuple(text for text, _ in spelled), **constants}
    t.save(out=t.op(method, *ports, **constants))
    return t.run()["out"]


def logits_by_hand(bare, table, ids, weigh=None):
    """``[pos d_vocab]`` of a whole pass with the senses of a table, and weights changed by hand."""
    model = bare[0]
    own = torch.tensor(table)[ids].transpose(0, 1)[None]
    hooks = [model.backpack.sense_network.register_forward_hook(lambda m, a, out: own)]
    if weigh is not None:
        hooks.append(model.backpack.sense_weight_net.register_forward_hook(lambda m, a, out: weigh(out)))
    try:
        with torch.no_grad():
            return model(torch.tensor([ids]), use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()


ITEMS = [(0, 5), (1, 3), (1, 7), (2, 4), (0, 0)]


def test_effects_are_those_of_edited_passes(here, bare, nurse):
    model, texts, senses = bare
    edits = edits_of(here, nurse)
    found = asked(here, bare, edits.values(), ITEMS, targets=(-1,))
    rows = model.lm_head.weight.numpy()
    untouched = [logits_by_hand(bare, senses, ids) for ids in texts]
    for number, (name, edit) in enumerate(edits.items()):
        operations = [Scale(o.tokens, o.senses, o.factor) if isinstance(o, MaskWeights) else o for o in edit.operations]
        table = brute.edited_table(operations, senses, rows)
        passes = [logits_by_hand(bare, table, ids) for ids in texts]
        for item, (row, place) in enumerate(ITEMS):
            before, after = untouched[row][place], passes[row][place]
            p, q = before.log_softmax(-1), after.log_softmax(-1)
            close(found.logits_before[item], before, name)
            close(found.logits_after[number, item], after, name)
            close(found.log_p_before[item], p, name)
            close(found.log_p_after[number, item], q, name)
            close(found.kl[number, item], (p.exp() * (p - q)).sum(), name)
    still = list(edits).index("of no word there")
    assert (found.logits_after[still] == found.logits_before).all()
    assert (found.kl[:still] > 1e-4).any(axis=1).all()


def close(found, wanted, name):
    assert np.abs(np.asarray(found) - wanted.numpy()).max() < 1e-10, name


def test_the_tokens_that_move_most_are_those_of_the_whole_vocabulary(here, bare, nurse):
    edits = [made(here, Scale(nurse, 1, 3.0))]
    whole = asked(here, bare, edits, ITEMS, targets=(-1,))
    found = asked(here, bare, edits, ITEMS, top=4, targets=(SHE, HE))
    moved = np.abs(np.exp(whole.log_p_after[0]) - np.exp(whole.log_p_before))[:, :-N_PADDING]
    for item in range(len(ITEMS)):
        wanted = np.argsort(-moved[item])[:4]
        assert found.moved_ids[0, item].tolist() == wanted.tolist() or moved[item].max() == 0
        assert (found.moved_after[0, item] == whole.log_p_after[0, item, found.moved_ids[0, item]]).all()
    assert (found.logits_after == whole.logits_after[..., [SHE, HE]]).all()


def test_logits_of_a_few_tokens_need_no_others(here, bare, nurse):
    edits = list(edits_of(here, nurse).values())
    whole = asked(here, bare, edits, ITEMS, targets=(SHE, HE))
    found = asked(here, bare, edits, ITEMS, "backpack.logit_effects", targets=(SHE, HE))
    assert np.abs(found.after - whole.logits_after).max() < 1e-10
    assert (found.before == whole.logits_before).all()


def test_weights_of_positions_are_masked_as_in_a_pass(here, bare):
    _, texts, senses = bare
    edit = made(here, MaskWeights(positions=(1, 2), senses=(0, 3), factor=0.5), Scale(50, 1, 2.0))
    found = asked(here, bare, [edit], [(0, 5), (1, 7)], targets=(-1,))
    table = brute.edited_table(edit.operations[1:], senses, bare[0].lm_head.weight.numpy())

    def weigh(weights):
        weights = weights.clone()
        weights[:, [[0], [3]], :, [[1, 2]]] *= 0.5
        return weights

    for item, (row, place) in enumerate([(0, 5), (1, 7)]):
        wanted = logits_by_hand(bare, table, texts[row], weigh)[place]
        close(found.logits_after[0, item], wanted, "positions")
    with pytest.raises(interpd_client.CallerError, match="position 1, the text has 1 tokens"):
        asked(here, bare, [edit], [(0, 0)], targets=(-1,))


def test_contributions_against_words_are_reweighted_as_published(here, bare, nurse):
    model, texts, senses = bare
    edit = made(here, MaskWeights(nurse, (0, 1), 2.5, negative_only=0.1))
    found = asked(here, bare, [edit], [(1, 7)], targets=(-1,))
    with torch.no_grad():
        weights = model(torch.tensor([texts[1]])).contextualization[0, :, 7]
    wanted = logits_by_hand(bare, senses, texts[1])[7].clone()
    for place, token in enumerate(texts[1]):
        for sense in (0, 1) if token == nurse else ():
            says = model.lm_head.weight @ torch.tensor(senses[token, sense])
            low = 2.5 * says < torch.quantile(2.5 * says, 0.1)
            wanted += weights[sense, place] * torch.where(low, 1.5 * says, 0.0)
    close(found.logits_after[0, 0], wanted, "negative only")
    with pytest.raises(interpd_client.CallerError, match="looks at all logits"):
        asked(here, bare, [edit], [(1, 7)], "backpack.logit_effects", targets=(SHE,))


def test_topics_scale_every_token(here, bare):
    _, texts, senses = bare
    edit = made(here, Topic((60, 61, 70), 3))
    found = asked(here, bare, [edit], ITEMS, targets=(-1,))
    t = here.trace([0])
    bands = {"quantiles": (0.95, 0.8, 0.6), "factors": (3.3, 3.3, 3.0, 1.0)}
    t.save(out=t.op("backpack.topic", bag=(60, 61, 70), **bands))
    # not of the float32 result, whose 3.3 is another one
    factors = np.where(t.run()["out"].factors > 3.2, 3.3, t.result["out"].factors.astype(np.float64))
    for item, (row, place) in enumerate(ITEMS):
        wanted = logits_by_hand(bare, senses * factors[..., None], texts[row])[place]
        close(found.logits_after[0, item], wanted, "topic")


def test_what_cannot_be_is_refused(here, bare, nurse):
    edit = made(here, Scale(nurse, 1, 0.0))
    for items, constants, message in (
        ([(0, 6)], {}, "position 6 is not there: text 0 has 6 tokens"),
        ([(3, 0)], {}, "row 3 is not there"),
        ([(0, 0)], {"targets": (94,)}, "target 94 is not there"),
        ([(0, 0)], {"top": 92}, "top is 92"),
        ([(0, 0)], {"ending": 5}, "and -1 behind the last"),
    ):
        with pytest.raises(interpd_client.CallerError, match=message):
            asked(here, bare, [edit], items, **constants)
    other = Edit(edit.operations, "e", Fingerprint("sha256:x", 94, 4, 24))
    with pytest.raises(interpd_client.CallerError, match="of another model"):
        asked(here, bare, [other], [(0, 0)])
