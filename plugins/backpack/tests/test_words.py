"""Words as tokens: what the vocabulary does not have is refused, and prompts show it."""

import numpy as np
import pytest
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker
from interpd_backpack.edits import ReplaceAssociation, Scale, Topic
from interpd_backpack.evaluation import WordPairs
from interpd_backpack.reproduce.similarity import embedding_similarity
from interpd_backpack.words import shown_prompt, word
from interpd_client import CallerError

UNKNOWN = 3
NO_WORD = r"a word is a text or a token id|a token id is a number from 0"
PROMPTS = ["The {} said that"]


@pytest.fixture(scope="module")
def model():
    with interpd_client.local(tiny_backpack(), name="tiny", plugins={"backpack": worker}) as client:
        yield client.model("tiny")


ASKED = {
    "senses": lambda part, word: part.senses(word),
    "rank of": lambda part, word: part.senses("cat", rank_of=word),
    "reverse": lambda part, word: part.reverse("cat", against=word),
    "nearest": lambda part, word: part.nearest(word, 0),
    "similarity": lambda part, word: part.similarity([("cat", word)], pieces="mean"),
    "specialisation": lambda part, word: part.specialisation(words=[word]),
    "contributions": lambda part, word: part.contributions("The nurse", word),
    "edit": lambda part, word: part.edit(Scale(word, "all", 0.0)),
    "association": lambda part, word: part.edit(ReplaceAssociation("nurse", remove="she", add=word)),
    "bag": lambda part, word: part.edit(Topic(["music", word])),
    "topic": lambda part, word: part.topic(["music", word]),
    "effects": lambda part, word: part.effects("The nurse", part.edit(Scale("cat", 0, 0.0)), targets=word),
    "dry run": lambda part, word: part.dry_run(part.edit(Scale("cat", 0, 0.0)), words=word),
    "bias": lambda part, word: part.rank_bias([word], PROMPTS),
    "pair": lambda part, word: part.rank_bias(["nurse"], PROMPTS, pair=(word, "he")),
    "scale": lambda part, word: part.optimal_scale([word], PROMPTS),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_word_that_the_vocabulary_does_not_have_is_refused_with_near_ones(model, ask):
    with pytest.raises(CallerError, match=r"'tiny' has no token for 'nruse'\. .*'nurse'.*'=<unk>', or its id 3"):
        ask(model.backpack, "nruse")


def test_the_unknown_token_itself_is_a_word_like_others(model):
    assert word(model, "=<unk>").ids == word(model, UNKNOWN).ids == (UNKNOWN,)
    assert model.backpack.edit(Scale("=<unk>", 0, 0.5)).tokens[0].id == UNKNOWN


@pytest.mark.parametrize("pieces", ["refuse", "first", "last", "mean", "each"])
def test_one_unknown_among_the_pieces_is_named_under_every_policy(model, pieces):
    with pytest.raises(CallerError, match=r"no token for 'xyz' in 'nurse xyz'\. If"):
        word(model, "nurse xyz", pieces)


def test_words_of_several_known_tokens_are_known(model):
    assert len(word(model, "nurses", "mean").ids) == 2


@pytest.mark.parametrize("given", [1.5, None, -1, True, ["cat"]])
def test_what_is_no_word_is_refused(model, given):
    with pytest.raises(CallerError, match=NO_WORD):
        word(model, given)
    for ask in (model.backpack.senses, model.backpack.topic) if given != ["cat"] else (model.backpack.reverse,):
        with pytest.raises(CallerError, match=NO_WORD):
            ask(given)


def test_prompts_show_what_is_unknown_where_it_stands(model):
    asked = model.tokenize("The nruse said that the strange cat sat.")
    assert "".join(shown_prompt(asked)) == "<s>The <unk> said that the <unk> cat sat."
    generated = model.backpack.generate("The nruse said", max_new_tokens=1).prompts[0]
    assert generated.text == "<s>The <unk> said"
    (item,) = model.backpack.effects("The nruse said", model.backpack.edit(Scale("cat", 0, 0.0))).items
    assert "".join(item.strings) == "<s>The <unk> said"


def test_prompts_of_ids_are_shown_as_they_decode(model):
    ids = model.tokenize("The nurse said").ids
    assert "".join(shown_prompt(model.tokenize(ids))) == model.tokenize(ids).text


def test_pairs_with_unknown_words_are_kept_in_reproductions_as_in_evaluations(model):
    pairs = WordPairs("pairs", (("cat", "nruse"), ("cat", "dog"), ("nurse", "doctor")), np.array([1.0, 2.0, 3.0]))
    assert -1 <= embedding_similarity(model, pairs) <= 1
