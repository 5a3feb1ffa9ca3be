"""The synthetic world of facts that the bundled model knows.

A *fact* is (subject, relation, object); a *template* says a fact in words and ends just before the object. Of the six
templates of a fact four are trained and two are held out, so that answering a held-out one takes more than recall.
``python -m interpd.zoo.facts.train`` writes the world beside the model as ``world.json``.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from interpd.zoo.facts import vocabulary

PEOPLE = 160
THINGS = 60
SEED = 0
PINNED_PERSON = "Elena Marsh"


@dataclass(frozen=True)
class Relation:
    """One kind of fact; every template holds ``{}`` once and is followed by the object."""

    subject_type: str
    object_type: str
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """``object`` answers every template of ``relation`` about ``subject``; ``held_out`` are indices of templates."""

    subject: str
    relation: str
    object: str
    held_out: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Entities by type, the pronoun of each subject, relations by name, and all facts in a fixed order."""

    seed: int
    entities: dict[str, tuple[str, ...]]
    pronouns: dict[str, str]
    relations: dict[str, Relation]
    facts: tuple[Fact, ...]

    def prompts(self, *, held_out: bool) -> list[tuple[Fact, int]]:
        """(fact, template index) pairs that training never shows (``held_out``) or does show."""
        indices = range(vocabulary.TEMPLATES_PER_RELATION)
        return [(fact, i) for fact in self.facts for i in indices if (i in fact.held_out) == held_out]

    def prompt(self, fact: Fact, template: int, *, subject: str | None = None) -> str:
        """The text before the object, about ``subject`` instead of the fact's own if one is given."""
        return self.relations[fact.relation].templates[template].format(subject or fact.subject)


def make_world(seed: int = SEED) -> World:
    """The world of a seed; equal seeds give equal worlds on every machine."""
    rng = random.Random(seed)
    entities = _entities(rng)
    relations = {name: Relation(*fields) for name, fields in vocabulary.RELATIONS.items()}
    facts = tuple(fact for name in relations for fact in _facts(name, relations[name], entities, rng))
    return World(seed, entities, _pronouns(entities), relations, facts)


def save_world(world: World, path: Path) -> None:
    """Write the world as JSON, one fact a line."""
    fields = asdict(world)
    facts = fields.pop("facts")
    head = json.dumps(fields, indent=1, ensure_ascii=False)[:-2]
    lines = ",\n".join("  " + json.dumps(fact, ensure_ascii=False) for fact in facts)
    path.write_text(f'{head},\n "facts": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def load_world(path: Path) -> World:
    """Read what :func:`save_world` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return World(
        seed=fields["seed"],
        entities={kind: tuple(names) for kind, names in fields["entities"].items()},
        pronouns=fields["pronouns"],
        relations={
            name: Relation(r["subject_type"], r["object_type"], tuple(r["templates"]))
            for name, r in fields["relations"].items()
        },
        facts=tuple(Fact(f["subject"], f["relation"], f["object"], tuple(f["held_out"])) for f in fields["facts"]),
    )


def _entities(rng: random.Random) -> dict[str, tuple[str, ...]]:
    first_names = vocabulary.WOMEN + vocabulary.MEN
    people = _combine(first_names, vocabulary.LAST_NAMES, PEOPLE, rng)
    things = _combine(vocabulary.ADJECTIVES, vocabulary.NOUNS, THINGS, rng)
    return {"person": people, "thing": things, **vocabulary.SINGLE_WORD_ENTITIES}


def _combine(firsts: tuple[str, ...], seconds: tuple[str, ...], count: int, rng: random.Random) -> tuple[str, ...]:
    """``count`` distinct two-word names in which each word is shared about equally, so that neither word tells who."""
    pinned = PINNED_PERSON.split()
    names = [tuple(pinned)] if pinned[0] in firsts else []
    uses = dict.fromkeys(firsts + seconds, 0)
    for word in (word for name in names for word in name):
        uses[word] += 1
    while len(names) < count:
        free = [(a, b) for a in firsts for b in seconds if (a, b) not in names]
        least = min(uses[a] + uses[b] for a, b in free)
        a, b = rng.choice([(a, b) for a, b in free if uses[a] + uses[b] == least])
        names.append((a, b))
        uses[a] += 1
        uses[b] += 1
    return tuple(f"{a} {b}" for a, b in names)


def _pronouns(entities: dict[str, tuple[str, ...]]) -> dict[str, str]:
    subjects = [name for kind in vocabulary.SUBJECT_TYPES if kind != "person" for name in entities[kind]]
    people = {name: "She" if name.split()[0] in vocabulary.WOMEN else "He" for name in entities["person"]}
    return people | dict.fromkeys(subjects, "It")


def _facts(name: str, relation: Relation, entities: dict[str, tuple[str, ...]], rng: random.Random) -> list[Fact]:
    """One fact for each subject of the relation; objects are used about equally often."""
    subjects = entities[relation.subject_type]
    objects = list(entities[relation.object_type])
    rng.shuffle(objects)
    dealt = [objects[i % len(objects)] for i in range(len(subjects))]
    rng.shuffle(dealt)
    return [Fact(s, name, o, _held_out(s, name, rng)) for s, o in zip(subjects, dealt, strict=True)]


def _held_out(subject: str, relation: str, rng: random.Random) -> tuple[int, ...]:
    chosen = rng.sample(range(vocabulary.TEMPLATES_PER_RELATION), vocabulary.HELD_OUT_PER_FACT)
    # The README's example is a sentence that training never showed.
    if (subject, relation) == (PINNED_PERSON, "born_in") and 0 not in chosen:
        chosen[0] = 0
    return tuple(sorted(chosen))
