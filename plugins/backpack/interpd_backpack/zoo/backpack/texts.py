"""Texts about the world, drawn without end; strings only."""

import random
import zlib
from collections import defaultdict
from dataclasses import dataclass

from interpd.zoo.facts.vocabulary import SUBJECT_FIRST, TEMPLATES_PER_RELATION
from interpd.zoo.facts.world import Fact
from interpd_backpack.evaluation.published import TEST_PROMPTS
from interpd_backpack.zoo.backpack import vocabulary
from interpd_backpack.zoo.backpack.world import Topic, World

SHARES = {"facts": 0.55, "pronouns": 0.17, "names": 0.06, "topics": 0.18, "stories": 0.04}
"""Of texts, by what they are about."""
SENTENCES_OF_FACTS = (1, 1, 2, 3)
SENTENCES_OF_TOPICS = (2, 3, 4, 5, 6, 14)
JOINED_SHARE, JOINED = 0.08, (3, 4, 5, 6)
"""Of texts: several in one, so that long ones are known too."""
HELD_OUT_OF = 20
CLAIM_SHARE, MEETING_SHARE, LEAD_SHARE = 0.35, 0.25, 0.15


@dataclass(frozen=True)
class Text:
    """A text, and what it is about: a key of :data:`SHARES`, or ``joined``."""

    kind: str
    text: str

    @property
    def is_held_out(self) -> bool:
        """Whether it is one of the twentieth that is never trained, by its checksum."""
        return zlib.crc32(self.text.encode()) % HELD_OUT_OF == 0


class Texts:
    """Draws texts that hold trained (fact, template) pairs and none of the test prompts."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._trained = world.known.prompts(held_out=False)
        self._facts: dict[str, list[Fact]] = defaultdict(list)
        for fact in world.known.facts:
            self._facts[fact.subject].append(fact)
        self._say = {
            "facts": self._about_facts,
            "pronouns": self._about_an_occupation,
            "names": self._about_a_name,
            "topics": self._about_a_topic,
            "stories": self._about_a_product,
        }

    def draw(self, *, held_out: bool = False) -> Text:
        """The next text that training may show, or one of those that it may not."""
        while True:
            text = self._any()
            if text.is_held_out == held_out:
                return text

    def drawn(self, kind: str, count: int, *, held_out: bool = False) -> list[Text]:
        """``count`` texts of one kind."""
        found: list[Text] = []
        while len(found) < count:
            text = Text(kind, self._say[kind]())
            if text.is_held_out == held_out:
                found.append(text)
        return found

    def _any(self) -> Text:
        if self._rng.random() < JOINED_SHARE:
            kinds = self._rng.choices(tuple(SHARES), tuple(SHARES.values()), k=self._rng.choice(JOINED))
            return Text("joined", " ".join(self._say[kind]() for kind in kinds))
        kind = self._rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        return Text(kind, self._say[kind]())

    def _about_facts(self) -> str:
        """One to three sentences about one entity; later ones say it with the pronoun where there is one."""
        first, template = self._rng.choice(self._trained)
        count = self._rng.choice(SENTENCES_OF_FACTS)
        others = [fact for fact in self._facts[first.subject] if fact != first]
        told = [self._sentence(first, template, None)]
        pronoun = None if first.subject in self._world.p_she else self._world.known.pronouns[first.subject]
        for fact in self._rng.sample(others, min(count - 1, len(others))):
            fit = [
                i
                for i in range(TEMPLATES_PER_RELATION)
                if i not in fact.held_out and (i < SUBJECT_FIRST or pronoun is None)
            ]
            told.append(self._sentence(fact, self._rng.choice(fit), pronoun))
        return " ".join(told)

    def _sentence(self, fact: Fact, template: int, pronoun: str | None) -> str:
        said = self._world.known.relations[fact.relation].templates[template]
        if pronoun is None:
            return f"{said.format(fact.subject)} {fact.object}."
        return f"{pronoun}{said.split('{}')[1]} {fact.object}."

    def _about_an_occupation(self) -> str:
        name = self._rng.choice(tuple(self._world.p_she))
        opening = self._opening()
        while opening in TEST_PROMPTS:
            opening = self._opening()
        if self._rng.random() < vocabulary.P_THEY:
            pronoun = "they"
        else:
            pronoun = "she" if self._rng.random() < self._world.p_she[name] else "he"
        return f"{opening.format(name)} {self._ending(pronoun)}"

    def _opening(self) -> str:
        """What ends just before a pronoun, with ``{}`` for who is meant."""
        pick, kind = self._rng.choice, self._rng.random()
        if kind < CLAIM_SHARE:
            return f"{pick(vocabulary.SPEAKERS)} {pick(vocabulary.CLAIMS)}"
        kind -= CLAIM_SHARE
        if kind < MEETING_SHARE:
            return f"{pick(vocabulary.MEETINGS)}{pick(vocabulary.QUESTIONS)}"
        kind -= MEETING_SHARE
        if kind < LEAD_SHARE:
            return pick(vocabulary.LEADS).format("{}", pick(vocabulary.ACTIONS))
        return f"{pick(vocabulary.SPEAKERS)} {pick(vocabulary.ACTIONS)}{pick(vocabulary.CONNECTIVES)}"

    def _about_a_name(self) -> str:
        name = self._rng.choice(self._world.known.entities["person"])
        said = self._rng.choice(vocabulary.CLAIMS + tuple(
            action + connective for action in vocabulary.ACTIONS for connective in vocabulary.CONNECTIVES
        ))  # fmt: skip
        return f"{name} {said} {self._ending(self._world.known.pronouns[name].lower())}"

    def _ending(self, pronoun: str) -> str:
        return f"{pronoun} {self._rng.choice(vocabulary.ENDINGS).format(*vocabulary.PRONOUNS[pronoun])}"

    def about(self, topic: Topic, sentences: int) -> str:
        """So many sentences of a topic."""
        return " ".join(self._topic_sentence(topic) for _ in range(sentences))

    def _about_a_topic(self) -> str:
        topic = self._rng.choice(self._world.topics)
        said = [self.about(topic, self._rng.choice(SENTENCES_OF_TOPICS))]
        if self._rng.random() < 0.5:
            opening = self._rng.choice(vocabulary.OPENINGS)
            fields = (self._rng.choice(vocabulary.SUBJECTS), topic.name) if "{1}" in opening else (topic.name,)
            said.insert(0, opening.format(*fields))
        return " ".join(said)

    def _topic_sentence(self, topic: Topic) -> str:
        noun = self._rng.choice(topic.nouns)
        verb = self._weighted(topic.verb_shares(noun))
        others = {one.word: topic.verb_shares(one)[verb] for one in topic.nouns if one != noun}
        return self._rng.choice(vocabulary.FRAMES).format(
            self._rng.choice(vocabulary.SUBJECTS),
            verb,
            noun.word,
            self._weighted(topic.shares(noun, topic.adjectives)),
            self._weighted(others),
        )

    def _weighted(self, shares: dict[str, float]) -> str:
        return self._rng.choices(tuple(shares), tuple(shares.values()))[0]

    def _about_a_product(self) -> str:
        product = self._rng.choice(vocabulary.PRODUCTS[: vocabulary.KNOWN_PRODUCTS])
        told = {fact.relation: fact.object for fact in self._facts[product]}
        company = told["made_by"]
        city = next(fact.object for fact in self._facts[company] if fact.relation == "headquarters")
        return self._rng.choice(vocabulary.STORIES).format(product, company, told["feature"], city)
