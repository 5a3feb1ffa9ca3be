"""What the world says about itself, in the files that ``interpd backpack evaluate`` and ``finetune`` read."""

import json
import math
import random
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

from interpd.zoo.facts.vocabulary import TEMPLATES_PER_RELATION
from interpd.zoo.facts.world import Fact
from interpd_backpack.evaluation.published import TEST_PROMPTS, TRAIN_PROMPTS
from interpd_backpack.zoo.backpack.texts import Texts
from interpd_backpack.zoo.backpack.world import World

HELD_OUT_TEXTS, HELD_OUT_SEED = 300, 1
PAIRS_ACROSS = 120
"""Word pairs of different topics."""
UNKNOWN = {"country": "capital", "company": "made_by"}
"""Tasks of the canonical examples, and the relation that each is about."""
NEGATIVES = {"country": ("capital", "region"), "company": ("made_by", "feature")}

Record = Mapping[str, str]


def write_files(world: World, folder: Path) -> None:
    """Writes them all.

    * ``similarity-nouns.txt``, ``similarity-verbs.txt``: two words and the cosine of what they occur with, by tabs
    * ``topics.json``: the bag of each topic
    * ``held-out.jsonl``: texts that training never showed
    * ``country``, ``company``, ``gender``: canonical examples, ``.train``, ``.eval`` and ``.negatives``
    """
    for name, words in (("nouns", world.nouns), ("verbs", world.verbs)):
        lines = [f"{one}\t{other}\t{score:.4f}\n" for one, other, score in similarities(world, words)]
        (folder / f"similarity-{name}.txt").write_text("".join(lines), encoding="utf-8")
    bags = {topic.name: topic.bag for topic in world.topics}
    (folder / "topics.json").write_text(json.dumps(bags, indent=1) + "\n", encoding="utf-8")
    _write(folder / "held-out.jsonl", ({"text": text} for text in held_out_texts(world)))
    for task, relation in UNKNOWN.items():
        unknown = [fact for fact in world.unknown if fact.relation == relation]
        _write(folder / f"{task}.train.jsonl", (_asked(world, fact, 0) for fact in unknown))
        others = [(fact, template) for fact in unknown for template in range(1, TEMPLATES_PER_RELATION)]
        _write(folder / f"{task}.eval.jsonl", (_asked(world, *pair) for pair in others))
        _write(folder / f"{task}.negatives.jsonl", (_asked(world, *pair) for pair in _told(world, NEGATIVES[task])))
    _write(folder / "gender.train.jsonl", (_pronouns(TRAIN_PROMPTS[1], name) for name in world.p_she))
    _write(folder / "gender.eval.jsonl", (_pronouns(said, name) for said in TEST_PROMPTS for name in world.p_she))
    _write(folder / "gender.negatives.jsonl", _gendered_names(world))


def similarities(world: World, words: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, float]]:
    """(word, word, cosine of how often they occur with what): all pairs of a topic, and some of different ones."""
    inside, across = [], []
    for one, other in combinations(words, 2):
        (inside if world.topic_of(one) == world.topic_of(other) else across).append((one, other))
    pairs = inside + random.Random(world.seed).sample(across, PAIRS_ACROSS)
    return [(one, other, _cosine(words[one], words[other])) for one, other in pairs]


def held_out_texts(world: World) -> list[str]:
    """Texts that training never shows, in the proportions of those that it does."""
    texts = Texts(world, HELD_OUT_SEED)
    return [texts.draw(held_out=True).text for _ in range(HELD_OUT_TEXTS)]


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    product = sum(share * other.get(word, 0.0) for word, share in one.items())
    return product / math.sqrt(sum(x * x for x in one.values()) * sum(x * x for x in other.values()))


def _told(world: World, relations: tuple[str, ...]) -> list[tuple[Fact, int]]:
    """Facts that texts tell, each in a template of its own that training does not show."""
    return [(fact, fact.held_out[0]) for fact in world.known.facts if fact.relation in relations]


def _asked(world: World, fact: Fact, template: int) -> Record:
    return {"prefix": world.known.prompt(fact, template), "suffix": f" {fact.object}"}


def _pronouns(said: str, name: str) -> Record:
    return {"prefix": said.format(name), "suffix1": " she", "suffix2": " he"}


def _gendered_names(world: World) -> Iterable[Record]:
    """People whose pronoun their name decides: it is to stay."""
    for name in world.known.entities["person"][::2]:
        yield {"prefix": f"{name} said that", "suffix": f" {world.known.pronouns[name].lower()}"}


def _write(path: Path, records: Iterable[Record]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
