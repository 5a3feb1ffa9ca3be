"""Verdicts on pairs of operations, against both orders carried out on a random table."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from backpack_tests.edits.brute import edited_table

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

BASE = Fingerprint("", 6, 2, 4)
X, Y, HE, SHE = range(4)
EAST, NORTH, BETWEEN = np.eye(4)[0], np.eye(4)[1], (1.0, 1.0, 0.0, 0.0)

CATALOGUE = (
    *(Scale(X, 0, 2), Scale("all", "all", -0.5), Scale((X, Y), 0, 3), Scale(X, 0, 1), Scale(X, 1, 2), Scale(Y, 0, 2)),
    *(Remove(X, 0), Remove("all", 0), Topic((HE, SHE), 3), Topic(HE, 0)),
    *(ReplaceAssociation(X, HE, SHE), ReplaceAssociation(X, SHE, Y), ReplaceAssociation(Y, HE, SHE)),
    *(Transplant(X, Y, 0), Transplant(Y, HE, 0), Transplant(X, HE, 1), Transplant(HE, Y, "all")),
    *(ProjectOut(X, (HE, SHE)), ProjectOut("all", (SHE, HE), share=0.5), ProjectOut(X, EAST), ProjectOut(X, -EAST)),
    *(ProjectOut(X, NORTH), ProjectOut("all", BETWEEN), ProjectOut(X, BETWEEN, share=0)),
    *(AddDelta(X, 0, EAST), AddDelta(X, 0, NORTH), AddDelta(X, 0, np.zeros(4)), AddDelta(X, 1, EAST)),
    *(Set(X, 0, EAST), Set(X, 0, np.zeros(4)), Set(Y, 0, NORTH), Set(X, 0, NORTH)),
)
PAIRS = tuple(combinations_with_replacement(CATALOGUE, 2))


def differs(first, second, seed):
    random = np.random.default_rng(seed)
    senses, rows = random.normal(size=(6, 2, 4)), random.normal(size=(6, 4))
    one, other = (edited_table(pair, senses, rows) for pair in ((first, second), (second, first)))
    return not np.allclose(one, other, rtol=0, atol=1e-12)


def test_verdicts_are_what_happens_in_both_orders():
    for first, second in PAIRS:
        told = Edit((first, second), "pair", BASE).conflicts()
        is_different = differs(first, second, seed=0)
        what = (first, second, told)
        if not told:
            assert not is_different, what
        elif told[0].order_matters is not None:
            assert is_different == told[0].order_matters, what


def test_what_may_matter_does_for_some_model():
    undecided = [pair for pair in PAIRS if any(one.order_matters is None for one in Edit(pair, "p", BASE).conflicts())]
    assert len(undecided) > 10
    for pair in undecided:
        assert any(differs(*pair, seed) for seed in range(20)), pair


def test_a_conflict_says_which_operations_meet_where_and_why():
    edit = Edit((Scale((X, Y), (0, 1), 2), Scale(HE, 0, 2), AddDelta(X, 1, EAST)), "three", BASE)
    (conflict,) = edit.conflicts()
    assert (conflict.first, conflict.second, conflict.order_matters) == (0, 2, True)
    assert str(conflict) == (
        "operations 0 and 2 meet at sense 1 of token 0; their order matters: a vector that is added before is scaled, "
        "one that is added after is not"
    )


@pytest.mark.parametrize(
    ("other", "meets"),
    [(Scale(X, 0, 2), False), (Set(X, 0, EAST), False), (MaskWeights(X, 0, 3), True), (MaskWeights(Y, 0, 3), False)],
)
def test_weights_meet_nothing_but_weights(other, meets):
    found = Edit((MaskWeights(X, 0, 2), other), "pair", BASE).conflicts()
    assert [one.order_matters for one in found] == [False] * meets
