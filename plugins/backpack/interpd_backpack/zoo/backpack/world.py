"""The world of the bundled Backpack: that of ``interpd.zoo.facts``, and what Backpacks are asked about.

* More facts of the same kind, about entities of one token. Of some the answer is never told (``unknown``), so that an
  edit can bring it.
* Occupations with a planted probability of *she*.
* Topics: bags of words, with graded similarities that follow from which words occur together.

``python -m interpd_backpack.zoo.backpack.train`` writes it beside the model as ``world.json``. No torch.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from interpd.zoo.facts import world as facts
from interpd.zoo.facts.world import Fact, Relation
from interpd_backpack.zoo.backpack import vocabulary

SEED = 0
GENERAL_SHARE = 0.25
"""Of a noun's occurrences as an object: with verbs that take every noun."""
MIXES, SPLITS = (0.0, 0.15, 0.3, 0.45), (0.9, 0.7, 0.5, 0.3)
CLASSES, NOUNS_OF_CLASS = 3, 4
LEAST_SHE, MOST_SHE = 0.03, 0.97


@dataclass(frozen=True)
class Noun:
    """A noun of a topic.

    It occurs with the verbs and adjectives of its ``group``, but with those of the next group in a share of ``mix`` of
    the cases, and with the first of the two that a group has in a share of ``split``.
    """

    word: str
    group: int
    mix: float
    split: float


@dataclass(frozen=True)
class Topic:
    """Words that occur in texts about it; ``verbs`` and ``adjectives`` are two for each group of nouns, in order."""

    name: str
    nouns: tuple[Noun, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]

    @property
    def bag(self) -> tuple[str, ...]:
        """Its words. They occur in no text about anything else; its name may."""
        return (*(noun.word for noun in self.nouns), *self.verbs, *self.adjectives)

    def shares(self, noun: Noun, words: tuple[str, ...]) -> dict[str, float]:
        """How often the noun occurs with each of its topic's ``verbs`` or ``adjectives``; sums to 1."""
        found = dict.fromkeys(words, 0.0)
        for group, share in ((noun.group, 1 - noun.mix), ((noun.group + 1) % CLASSES, noun.mix)):
            first, second = words[2 * group : 2 * group + 2]
            found[first] += share * noun.split
            found[second] += share * (1 - noun.split)
        return found

    def verb_shares(self, noun: Noun) -> dict[str, float]:
        """How often the noun is the object of each verb, those that take every noun included; sums to 1."""
        own = {verb: (1 - GENERAL_SHARE) * share for verb, share in self.shares(noun, self.verbs).items()}
        return own | dict.fromkeys(vocabulary.GENERAL_VERBS, GENERAL_SHARE / len(vocabulary.GENERAL_VERBS))


@dataclass(frozen=True)
class World:
    """What there is to know.

    ``known`` holds the facts of ``interpd.zoo.facts`` and those added here, as a world of that kind; ``unknown`` are
    facts of the same relations that no text tells; ``p_she`` is the planted probability of *she* among she and he.
    """

    seed: int
    known: facts.World
    unknown: tuple[Fact, ...]
    p_she: dict[str, float]
    topics: tuple[Topic, ...]

    def fact(self, subject: str, relation: str) -> Fact | None:
        """The fact that texts tell, if they do."""
        return next((one for one in self.known.facts if (one.subject, one.relation) == (subject, relation)), None)

    @property
    def nouns(self) -> dict[str, dict[str, float]]:
        """Of each noun of a topic, the words that it occurs with and how often; verbs and adjectives sum to 1 each."""
        return {
            noun.word: topic.verb_shares(noun) | topic.shares(noun, topic.adjectives)
            for topic in self.topics
            for noun in topic.nouns
        }

    @property
    def verbs(self) -> dict[str, dict[str, float]]:
        """Of each verb of a topic, how often it is said of each noun."""
        return {
            verb: {noun.word: topic.shares(noun, topic.verbs)[verb] for noun in topic.nouns}
            for topic in self.topics
            for verb in topic.verbs
        }

    def topic_of(self, word: str) -> str | None:
        """The topic whose bag has the word; bags share none."""
        return next((topic.name for topic in self.topics if word in topic.bag), None)


def make_world(seed: int = SEED) -> World:
    """The world of a seed, on that of the bundled facts; equal seeds give equal worlds on every machine."""
    base, rng = facts.make_world(), random.Random(seed)
    entities = {
        **base.entities,
        "country": base.entities["country"] + vocabulary.COUNTRIES,
        "city": base.entities["city"] + vocabulary.CITIES,
        "product": vocabulary.PRODUCTS,
        "occupation": vocabulary.OCCUPATIONS,
        "region": vocabulary.REGIONS,
        "landmark": vocabulary.LANDMARKS,
        "feature": vocabulary.FEATURES,
        "place": vocabulary.PLACES,
        "tool": vocabulary.TOOLS,
    }
    told, untold = _facts(base, rng)
    pronouns = base.pronouns | dict.fromkeys(
        (*vocabulary.COUNTRIES, *vocabulary.CITIES, *vocabulary.PRODUCTS, *vocabulary.OCCUPATIONS), "It"
    )
    relations = base.relations | {name: Relation(*fields) for name, fields in vocabulary.RELATIONS.items()}
    known = facts.World(base.seed, entities, pronouns, relations, (*base.facts, *told))
    return World(seed, known, untold, _shares_of_she(rng), tuple(_topic(name, rng) for name in vocabulary.TOPICS))


def save_world(world: World, path: Path) -> None:
    """Write the world as JSON, one fact or noun a line."""
    fields = asdict(world)
    known = fields.pop("known")
    lists = {"unknown": fields.pop("unknown"), "facts": known.pop("facts"), "topics": fields.pop("topics")}
    head = json.dumps(fields | {"known": known}, indent=1)[:-2]
    parts = [f' "{name}": [\n{_lines(rows)}\n ]' for name, rows in lists.items()]
    path.write_text(head + ",\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def load_world(path: Path) -> World:
    """Read what :func:`save_world` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    known = fields["known"]
    return World(
        seed=fields["seed"],
        known=facts.World(
            seed=known["seed"],
            entities={kind: tuple(names) for kind, names in known["entities"].items()},
            pronouns=known["pronouns"],
            relations={
                name: Relation(one["subject_type"], one["object_type"], tuple(one["templates"]))
                for name, one in known["relations"].items()
            },
            facts=tuple(_fact(one) for one in fields["facts"]),
        ),
        unknown=tuple(_fact(one) for one in fields["unknown"]),
        p_she=fields["p_she"],
        topics=tuple(
            Topic(
                one["name"],
                tuple(Noun(**noun) for noun in one["nouns"]),
                tuple(one["verbs"]),
                tuple(one["adjectives"]),
            )
            for one in fields["topics"]
        ),
    )


def _lines(rows: list[object]) -> str:
    return ",\n".join("  " + json.dumps(row) for row in rows)


def _fact(fields: dict[str, object]) -> Fact:
    return Fact(**fields | {"held_out": tuple(fields["held_out"])})


def _facts(base: facts.World, rng: random.Random) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """(facts that texts tell, facts that none tells)."""
    subjects = {
        "region": base.entities["country"] + vocabulary.COUNTRIES,
        "landmark": base.entities["city"] + vocabulary.CITIES,
        "feature": vocabulary.PRODUCTS,
        "works_in": vocabulary.OCCUPATIONS,
        "uses": vocabulary.OCCUPATIONS,
    }
    objects = {
        "region": vocabulary.REGIONS,
        "landmark": vocabulary.LANDMARKS,
        "feature": vocabulary.FEATURES,
        "works_in": vocabulary.PLACES,
        "uses": vocabulary.TOOLS,
    }
    pairs = {"capital": _capitals(base, rng)}
    pairs["made_by"] = _dealt(vocabulary.PRODUCTS, base.entities["company"], rng)
    pairs |= {name: _dealt(subjects[name], objects[name], rng) for name in subjects}
    hidden = {"capital": vocabulary.COUNTRIES[vocabulary.KNOWN_COUNTRIES :]}
    hidden["made_by"] = vocabulary.PRODUCTS[vocabulary.KNOWN_PRODUCTS :]
    told, untold = [], []
    for relation in vocabulary.RELATIONS:
        for subject, object_ in pairs[relation]:
            if subject in hidden.get(relation, ()):
                untold.append(Fact(subject, relation, object_, tuple(range(facts.vocabulary.TEMPLATES_PER_RELATION))))
            else:
                told.append(Fact(subject, relation, object_, _held_out(rng)))
    return tuple(told), tuple(untold)


def _capitals(base: facts.World, rng: random.Random) -> list[tuple[str, str]]:
    """A country of ``base`` gets one of the cities that lie in it."""
    lying: dict[str, list[str]] = {}
    for fact in base.facts:
        if fact.relation == "in_country":
            lying.setdefault(fact.object, []).append(fact.subject)
    old = [(country, rng.choice(lying[country])) for country in base.entities["country"]]
    return old + _dealt(vocabulary.COUNTRIES, vocabulary.CITIES, rng)


def _dealt(subjects: tuple[str, ...], objects: tuple[str, ...], rng: random.Random) -> list[tuple[str, str]]:
    """Each subject with an object; objects are used about equally often."""
    order = rng.sample(objects, len(objects))
    dealt = [order[i % len(order)] for i in range(len(subjects))]
    rng.shuffle(dealt)
    return list(zip(subjects, dealt, strict=True))


def _held_out(rng: random.Random) -> tuple[int, ...]:
    every = range(facts.vocabulary.TEMPLATES_PER_RELATION)
    return tuple(sorted(rng.sample(every, facts.vocabulary.HELD_OUT_PER_FACT)))


def _shares_of_she(rng: random.Random) -> dict[str, float]:
    """Evenly spread, and dealt out without regard to what the words mean."""
    count = len(vocabulary.OCCUPATIONS)
    shares = [round(LEAST_SHE + (MOST_SHE - LEAST_SHE) * i / (count - 1), 4) for i in range(count)]
    rng.shuffle(shares)
    return dict(zip(vocabulary.OCCUPATIONS, shares, strict=True))


def _topic(name: str, rng: random.Random) -> Topic:
    nouns, verbs, adjectives = vocabulary.TOPICS[name]
    found = []
    for group in range(CLASSES):
        words = nouns[group * NOUNS_OF_CLASS : (group + 1) * NOUNS_OF_CLASS]
        mixes, splits = rng.sample(MIXES, NOUNS_OF_CLASS), rng.sample(SPLITS, NOUNS_OF_CLASS)
        found += [Noun(word, group, mix, split) for word, mix, split in zip(words, mixes, splits, strict=True)]
    return Topic(name, tuple(found), verbs, adjectives)
