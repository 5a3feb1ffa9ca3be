"""Pairs of prompts of the bundled model ``facts``: the same template about two subjects whose answers differ."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from interpd import zoo
from interpd.zoo.facts.world import Fact, World, load_world
from interpd_client import Model

ROLES = ("before the subject", "first of two subject tokens", "last subject token", "behind the subject", "last token")
"""What a position of a prompt is for. Names of this world have one or two tokens, so there is none in the middle."""
LAST_SUBJECT, BEHIND, LAST = 2, 3, 4


@dataclass(frozen=True)
class Pair:
    """A prompt, another with the same positions, and the answer of each: all as token ids."""

    prompt: tuple[int, ...]
    other: tuple[int, ...]
    true: int
    false: int
    roles: tuple[int, ...]
    """Of each position of the prompt, as an index into ``ROLES``."""

    def span(self, role: int) -> tuple[int, int] | None:
        """The positions of a role, which are neighbours; ``None``: the prompt has none."""
        found = [position for position, one in enumerate(self.roles) if one == role]
        return (found[0], found[-1] + 1) if found else None


def draw(model: Model, count: int, seed: int = 0) -> list[Pair]:
    """``count`` pairs about different facts."""
    world = load_world(zoo.path("facts") / "world.json")
    rng = random.Random(seed)
    peers: dict[str, list[Fact]] = defaultdict(list)
    for fact in world.facts:
        peers[fact.relation].append(fact)
    pairs = []
    for fact in rng.sample(world.facts, count):
        other = rng.choice([one for one in peers[fact.relation] if one.object != fact.object])
        template = rng.randrange(len(world.relations[fact.relation].templates))
        pairs.append(_pair(model, world, (fact, other), template))
    return pairs


def _pair(model: Model, world: World, both: tuple[Fact, Fact], template: int) -> Pair:
    prompts = [model.tokenize(world.prompt(fact, template)) for fact in both]
    true, false = (int(model.tokenize(fact.object).ids[-1]) for fact in both)
    subject = both[0].subject
    begin = prompts[0].text.index(subject)
    roles = _roles(prompts[0].offsets, begin, begin + len(subject))
    return Pair(tuple(prompts[0].ids), tuple(prompts[1].ids), true, false, roles)


def _roles(offsets: Sequence[tuple[int, int]], begin: int, end: int) -> tuple[int, ...]:
    """Roles of tokens by where they end in the text; the start token ends at 0."""
    roles = []
    for _, stop in offsets:
        if stop <= begin:
            roles.append(0)
        elif stop < end:
            roles.append(1)
        else:
            roles.append(LAST_SUBJECT if stop == end else BEHIND)
    return (*roles[:-1], LAST)
