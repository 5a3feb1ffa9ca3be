"""The world that the bundled model translates: two small languages, and a bias that is planted in each occupation.

``p_she`` of an occupation is the share of its sentences without a cue that call the person *she*. The shares are spread
evenly over 0 to 1 and dealt out by a seed, so what is known of the world's occupations elsewhere plays no part.
``python -m interpd_attribution.zoo.translate.train`` writes them beside the model as ``world.json``.
"""

import json
import random
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from interpd_attribution.zoo.translate.vocabulary import FORMS, GENDERED, HE, KIN, NAMES, OCCUPATIONS, SHE, WORDS

SEED = 0
HELD_OUT_OF = 10
"""One sentence in so many is never trained."""

_SLOT = re.compile(r"{(\w+)}")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (\w)")


@dataclass(frozen=True)
class Occupation:
    """Words of both languages, and the planted share of *she*."""

    source: str
    target: str
    p_she: float


@dataclass(frozen=True)
class Sentence:
    """One sentence; where an occupation decides, ``gender`` is what was drawn, else what the cue says, or empty."""

    source: str
    target: str
    form: str
    gender: str = ""
    occupation: str = ""
    """The source word."""
    other: str = ""
    """The target with the other gender, where an occupation decides: as good a translation."""

    @property
    def decided_by(self) -> str:
        """``occupation``, ``cue`` or ``none``."""
        return FORMS[self.form][0]

    @property
    def is_held_out(self) -> bool:
        """Whether training never shows its source."""
        return zlib.crc32(self.source.encode()) % HELD_OUT_OF == 0


@dataclass(frozen=True)
class World:
    """The occupations in a fixed order."""

    seed: int
    occupations: tuple[Occupation, ...]

    def template(self, occupation: Occupation, gender: str) -> Sentence:
        """``O bir X`` about an occupation, which the target calls she or he."""
        return _made("template", {"occupation": (occupation.source, occupation.target)}, gender)

    def with_cue(self, occupation: Occupation, gender: str, kin: tuple[str, str]) -> Sentence:
        """The same with a cue at its end: ``O bir X ve iyi bir anne``."""
        words = {"occupation": (occupation.source, occupation.target), "adjective": WORDS["adjective"][0], "kin": kin}
        return _made("parent", words, gender)

    def draw(self, rng: random.Random) -> Sentence:
        """Any sentence, held out or not, forms as often as their weights say."""
        (form,) = rng.choices(tuple(FORMS), [weight for _, weight, *_ in FORMS.values()])
        kind, _, source, _ = FORMS[form]
        words = {slot: rng.choice(WORDS[slot]) for slot in _SLOT.findall(source) if slot in WORDS}
        job = rng.choice(self.occupations)
        gender = "" if kind == "none" else rng.choice((SHE, HE))
        if kind == "occupation":
            gender = SHE if rng.random() < job.p_she else HE
        elif kind == "cue":
            name = rng.choice(NAMES[gender])
            words |= {"kin": rng.choice(KIN[gender]), "name": (name, name)}
        return _made(form, {**words, "occupation": (job.source, job.target)}, gender)

    def held_out(self, count: int, seed: int) -> list[Sentence]:
        """``count`` different sentences that training never shows."""
        rng = random.Random(seed)
        found: dict[str, Sentence] = {}
        while len(found) < count:
            sentence = self.draw(rng)
            if sentence.is_held_out:
                found.setdefault(sentence.source, sentence)
        return list(found.values())


def make_world(seed: int = SEED) -> World:
    """The world of a seed; equal seeds give equal worlds on every machine."""
    shares = [(i + 0.5) / len(OCCUPATIONS) for i in range(len(OCCUPATIONS))]
    random.Random(seed).shuffle(shares)
    return World(seed, tuple(Occupation(*words, round(p, 4)) for words, p in zip(OCCUPATIONS, shares, strict=True)))


def save_world(world: World, path: Path) -> None:
    """Write the world as JSON, one occupation a line."""
    lines = ",\n".join("  " + json.dumps(asdict(one), ensure_ascii=False) for one in world.occupations)
    path.write_text(f'{{\n "seed": {world.seed},\n "occupations": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def load_world(path: Path) -> World:
    """Read what :func:`save_world` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return World(fields["seed"], tuple(Occupation(**one) for one in fields["occupations"]))


def all_words() -> list[str]:
    """Every word of both languages without the period, sorted."""
    pairs = [*OCCUPATIONS, *(pair for words in (*WORDS.values(), *KIN.values()) for pair in words)]
    texts = [text for pair in pairs for text in pair] + [name for names in NAMES.values() for name in names]
    texts += [text for _, _, *both in FORMS.values() for text in both]
    texts += [word for words in GENDERED.values() for word in words.values()]
    words = {word for text in texts for word in _SLOT.sub("", text).replace("a(n)", "a an").rstrip(".").split()}
    return sorted((words | {"A", "An"}) - {"A(n)"})


def _made(form: str, words: Mapping[str, tuple[str, str]], gender: str) -> Sentence:
    kind, _, source, target = FORMS[form]
    said = _filled(source, {slot: pair[0] for slot, pair in words.items()})
    about = words["occupation"][0] if "{occupation}" in source else ""
    other = _told(target, words, HE if gender == SHE else SHE) if kind == "occupation" else ""
    return Sentence(said, _told(target, words, gender), form, gender if kind != "none" else "", about, other)


def _told(target: str, words: Mapping[str, tuple[str, str]], gender: str) -> str:
    """A sentence of the target language, with the articles that its words want."""
    filled = _filled(target, {slot: pair[1] for slot, pair in words.items()} | GENDERED.get(gender, {}))
    return _ARTICLE.sub(lambda m: f"{m[1]}{'n' * (m[2] in 'aeiou')} {m[2]}", filled)


def _filled(template: str, words: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda slot: words[slot[1]], template)
