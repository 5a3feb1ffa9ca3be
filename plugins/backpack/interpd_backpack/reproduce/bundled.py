"""The reproduction on the bundled Backpack and its twin, the transformer inside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interpd import zoo
from interpd.cli import Report, Reproduction
from interpd_backpack.zoo.backpack.world import World, load_world
from interpd_client import Model


@dataclass(frozen=True)
class Size:
    """How much is computed."""

    n_texts: int
    """Held-out texts of perplexities."""
    n_topics: int
    n_samples: int
    """Texts of each topic and strength."""
    n_occupations: int
    n_edits: int
    """Facts that are changed."""
    n_controls: int
    """Texts on which no edit should show."""
    tasks: tuple[str, ...]
    n_examples: int
    """Of the canonical examples of a task that is trained on."""
    n_background: int
    """Texts on which finetuning is to change nothing, and as many that say whether the ball is left."""
    n_epochs: int


FULL = Size(
    n_texts=300,
    n_topics=8,
    n_samples=16,
    n_occupations=43,
    n_edits=12,
    n_controls=60,
    tasks=("country", "company", "gender"),
    n_examples=20,
    n_background=50,
    n_epochs=8,
)
QUICK = Size(
    n_texts=30,
    n_topics=2,
    n_samples=2,
    n_occupations=5,
    n_edits=3,
    n_controls=4,
    tasks=("company",),
    n_examples=8,
    n_background=6,
    n_epochs=6,
)


@dataclass(frozen=True)
class Bundled:
    """Both models, and what is true of the world that they learned."""

    backpack: Model
    twin: Model
    size: Size

    @property
    def folder(self) -> Path:
        """Of the Backpack's files."""
        return zoo.path("backpack")

    @cached_property
    def world(self) -> World:
        """What texts told them."""
        return load_world(self.folder / "world.json")

    @cached_property
    def held_out(self) -> tuple[str, ...]:
        """Texts that no training showed."""
        lines = (self.folder / "held-out.jsonl").read_text(encoding="utf-8").splitlines()
        return tuple(json.loads(line)["text"] for line in lines)

    @cached_property
    def occupations(self) -> tuple[str, ...]:
        """Those that are measured, evenly from the least share of *she* to the greatest."""
        ordered = sorted(self.world.p_she, key=lambda name: self.world.p_she[name])
        last, count = len(ordered) - 1, min(self.size.n_occupations, len(ordered))
        return tuple(ordered[round(number * last / (count - 1))] for number in range(count))


def reproduce_bundled(asked: Reproduction, report: Report) -> None:
    """Adds every section to the report."""
    from interpd_backpack.reproduce.bias import reproduce_bias
    from interpd_backpack.reproduce.finetuning import reproduce_finetuning
    from interpd_backpack.reproduce.knowledge import reproduce_knowledge
    from interpd_backpack.reproduce.modelling import reproduce_perplexity
    from interpd_backpack.reproduce.similarity import reproduce_similarity
    from interpd_backpack.reproduce.topics import reproduce_topics

    sections: Sequence[Callable[[Bundled, Report], Mapping[str, bool]]] = (
        reproduce_perplexity,
        reproduce_similarity,
        reproduce_topics,
        reproduce_bias,
        reproduce_knowledge,
        reproduce_finetuning,
    )
    with asked.client("backpack", "backpack_twin", plugins=("backpack",)) as client:
        both = Bundled(client.model("backpack"), client.model("backpack_twin"), QUICK if asked.is_quick else FULL)
        findings: dict[str, bool] = {}
        for section in sections:
            found = section(both, report)
            report.findings(found)
            findings |= found
    report.numbers["findings"] = findings
