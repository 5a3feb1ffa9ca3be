"""Topics as operations of an edit, against topic control written out with loops."""

import numpy as np
import pytest
from backpack_tests.topics import oracle

from interpd_backpack.edits import Scale, Topic

pytestmark = pytest.mark.slow

TEXT = "The nurse said that"
BAG = ("music", "film", "fish")
EXACT = {"rtol": 0, "atol": 1e-9}


def factors(plain, formula="code"):
    """Those of strength 3, ``[V, k]``, with special tokens and padding rows scored zero."""
    skipped = {0, 1, 2, 3, *range(len(plain.tokenizer), len(plain.rows))}
    scores = oracle.scores_of(plain.model, [plain.id(word) for word in BAG], skipped, formula)
    return oracle.factors_of(scores, oracle.FACTORS[3])


@pytest.fixture(scope="module")
def table(plain):
    return factors(plain)


def test_a_topic_scales_every_token(model, part, plain, table):
    with model.trace(TEXT) as t:
        part.with_edit(t, part.edit(Scale("nurse", 0, 2), Topic(BAG, 3), name="topic"))
        t.save(logits=t.logits[0])
    senses = plain.senses * table.numpy()[..., None]
    senses[plain.id("nurse"), 0] *= 2
    np.testing.assert_allclose(t.result["logits"], plain.logits(plain.ids(TEXT), senses), **EXACT)


@pytest.mark.parametrize("formula", ["code", "paper"])
def test_a_topic_that_fades_does_so_at_each_position(model, part, plain, formula):
    edit = part.edit(Topic(BAG, 3, formula=formula, anneal=True), name="fading")
    with model.trace(TEXT) as t:
        part.with_edit(t, edit)
        t.save(logits=t.logits[0])
    ids, table = plain.ids(TEXT)[0].tolist(), factors(plain, formula)
    for end in range(1, len(ids) + 1):
        scaled = oracle.annealed_at_the_end(plain.model, ids[:end], table, 3.3, formula)
        wanted = oracle.next_logits(plain.model, ids[:end], scaled)
        np.testing.assert_allclose(t.result["logits"][end - 1], wanted.numpy(), **EXACT)


@pytest.mark.parametrize("anneal", [False, True])
def test_generations_keep_to_their_topic(model, part, plain, table, anneal):
    with model.generate(TEXT, max_new_tokens=4) as t:
        part.with_edit(t, part.edit(Topic(BAG, 3, anneal=anneal), name="topic"))
    wanted = oracle.controlled(plain.model, plain.ids(TEXT)[0].tolist(), 4, table, 3.3 if anneal else None)
    assert list(t.result.generated[0].token_ids) == wanted
