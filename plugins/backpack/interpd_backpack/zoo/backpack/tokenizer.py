"""The word-level tokenizer of the world, of the kind of ``interpd.zoo.facts``: one token for each word and mark."""

import re
from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from interpd.zoo.facts.tokenizer import PERIOD, word_tokenizer
from interpd.zoo.facts.tokenizer import world_words as words_of_facts
from interpd_backpack.evaluation.published import TEST_PROMPTS, TRAIN_PROMPTS
from interpd_backpack.zoo.backpack import vocabulary
from interpd_backpack.zoo.backpack.world import World

MARKS = (PERIOD, ",", ";")


def world_words(world: World) -> list[str]:
    """Every word of the world's texts and of the prompts, sorted, without the marks."""
    found = set(words_of_facts(world.known))
    for text in _strings(world):
        found |= set(re.findall(r"[A-Za-z]+", re.sub(r"\{\d?\}", " ", text)))
    return sorted(found)


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """A fast tokenizer that puts ``<s>`` first, gives one token to each word and mark, and decodes exactly."""
    return word_tokenizer(world_words(world), MARKS)


def _strings(world: World) -> Iterator[str]:
    for topic in world.topics:
        yield from (topic.name, *topic.bag)
    lists = (
        TEST_PROMPTS, TRAIN_PROMPTS, vocabulary.SPEAKERS, vocabulary.CLAIMS, vocabulary.ACTIONS,
        vocabulary.MEETINGS, vocabulary.CONNECTIVES, vocabulary.QUESTIONS, vocabulary.LEADS, vocabulary.ENDINGS,
        vocabulary.STORIES, vocabulary.GENERAL_VERBS, vocabulary.SUBJECTS, vocabulary.FRAMES, vocabulary.OPENINGS,
        *vocabulary.PRONOUNS.values(),
    )  # fmt: skip
    for texts in lists:
        yield from texts
