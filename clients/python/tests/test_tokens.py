"""Positions by text, index and slice."""

import pytest

import interpd_client as interpd
from interpd.graph.ir import Slice


@pytest.fixture
def t(model):
    return model.trace("Elena Marsh was born in Marsh Town")


def test_a_text_gives_the_positions_of_its_tokens(t):
    assert t.tokens("Elena Marsh") == (0, 1)
    assert t.tokens("Marsh", occurrence=-1) == (5,)
    assert (t.tokens("born in").first, t.tokens("born in").last) == (3, 4)


def test_indices_and_slices_count_tokens(t):
    assert (t.tokens[-1], t.tokens(-1), t.tokens[2:4], t.tokens(slice(2, 4))) == (6, (6,), (2, 3), (2, 3))
    assert (len(t.tokens), t.tokens.strings[1], t.tokens.ids[0]) == (7, " Marsh", 5)
    assert repr(t.tokens).startswith("<tokens 0:'Elena' 1:' Marsh'")


def test_the_service_is_asked_once_per_prompt_and_not_before(t, transport):
    tokens = t.tokens
    assert transport.n_tokenized == 0
    tokens("Elena")
    t.tokens("born")
    assert transport.n_tokenized == 1


def test_positions_stand_in_any_index(t):
    h = t.layers[0].resid_post
    h[:, t.tokens("Elena Marsh")]
    h[:, t.tokens("Elena")[0]]
    t.logits[:, t.tokens("in")]
    indices = [node.inputs[1] for node in t._recording.nodes if node.op == "tensor.getitem"]
    assert indices == [(Slice(), (0, 1)), (Slice(), 0), (Slice(), Slice())]
    assert t._recording.nodes[-2].params["positions"] == (4,)


def test_a_list_of_positions_alone_selects_rows(t):
    t.layers[0].resid_post[0][t.tokens("Elena Marsh")]
    assert t._recording.nodes[-1].inputs[1] == ((0, 1),)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda tokens: tokens("Berlin"), "does not contain 'Berlin'"),
        (lambda tokens: tokens("Marsh"), "contains 'Marsh' 2 times: say which, occurrence=0 is the first"),
        (lambda tokens: tokens[7], "no token 7: the prompt has 7 tokens"),
        (lambda tokens: tokens[5:2], "no token lies in 5:2: the prompt has 7 tokens"),
    ],
)
def test_positions_that_the_prompt_lacks_are_refused(t, use, message):
    with pytest.raises(interpd.PositionOutOfRange, match=message):
        use(t.tokens)


def test_an_occurrence_belongs_to_a_text(t):
    with pytest.raises(TypeError, match="occurrence says which text is meant"):
        t.tokens(3, occurrence=0)


def test_each_prompt_has_tokens_of_its_own(model):
    t = model.trace()
    a, b = t.prompt("one two"), t.prompt("two")
    assert (a.tokens("two"), b.tokens("two")) == ((1,), (0,))
