"""The golden numbers, for tests. Needs numpy only, and nothing of what made them.

    for case in reading.cases("tiny-gpt2", method="saliency", target="logit", suffix="sum"):
        ids, start = case.sequence("target").ids, case.start
        np.testing.assert_allclose(ours(ids, start), case.target_scores, atol=1e-6, rtol=1e-4)

Files (one index and one array file per name): ``<model>`` (the matrix), ``<model>.value-zeroing``, ``<model>.scores``,
``<model>.aggregation`` and ``<model>.captum``; their models are tiny (``tiny.py``) or in ``shared/models``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent / "data"

TINY = ("tiny-gpt2", "tiny-llama", "tiny-t5")
REAL = ("stories260K", "capp-gpt2", "g2p-bart-us", "aren-transliteration")
ENCODER_DECODER = ("tiny-t5", "g2p-bart-us", "aren-transliteration")


@dataclass(frozen=True)
class Sequence:
    """A text as it was spelled: ids first, everything else is for people."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    baseline_ids: tuple[int, ...]


@dataclass(frozen=True)
class Golden:
    """One file: the sequences of a model and the cases."""

    name: str
    told: Mapping[str, object]

    @property
    def about(self) -> Mapping[str, object]:
        """The model, whether it has two sides, the ids of the baseline and of EOS, the seed."""
        return self.told["about"]

    @property
    def made_with(self) -> Mapping[str, str]:
        """The versions of what made the numbers."""
        return self.told["made_with"]

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the source is another sequence than the target."""
        return bool(self.about["is_encoder_decoder"])

    @property
    def start(self) -> int:
        """The first position of the target that is attributed: after the prompt, or after the decoder's start."""
        return 1 if self.is_encoder_decoder else len(self.sequence("source").ids)

    def sequence(self, name: str) -> Sequence:
        """The sequence ``source``, ``target``, ``foil``, ``short``, ``elsewhere`` or ``source_elsewhere``."""
        told = self.about[f"sequence {name}"]
        return Sequence(told["text"], *(tuple(told[key]) for key in ("ids", "tokens", "baseline_ids")))

    @cached_property
    def cases(self) -> tuple["Case", ...]:
        """All cases, in the order of the file."""
        return tuple(Case(self, told) for told in self.told["cases"])

    def case(self, name: str) -> "Case":
        """The case with that id."""
        return next(case for case in self.cases if case.id == name and not case.raises)

    @cached_property
    def values(self) -> np.ndarray:
        """Every number of the file, float32."""
        with np.load(DATA / f"{self.name}.npz") as stored:
            return stored["values"]


@dataclass(frozen=True)
class Case:
    """What was asked and what came back.

    ``arrays`` has the scores by name: ``source`` (source position, step, ...), ``target`` (target position, step, ...;
    NaN where a position is not before the step), ``step.<score>`` (step,), ``sequence.<name>`` and what a method drew
    or measured besides (``alphas`` of gradient SHAP: step, sample).
    """

    golden: Golden
    told: Mapping[str, object]

    @property
    def id(self) -> str:
        """Its name in the file."""
        return str(self.told["id"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.golden.about["model"])

    @property
    def method(self) -> str:
        """The method's id."""
        return str(self.told["method"])

    @property
    def arguments(self) -> Mapping[str, object]:
        """What the method was given, when it was loaded and when it was called."""
        return self.told["arguments"]

    @property
    def attribute_target(self) -> bool:
        """Whether the target's prefix is attributed beside the source."""
        return bool(self.told["attribute_target"])

    @property
    def target(self) -> str:
        """The id of the attributed step function."""
        return str(self.told["target"])

    @property
    def target_arguments(self) -> Mapping[str, object]:
        """What the step function was given, but for the contrast."""
        given = self.told.get("target_arguments", {})
        return {key: value for key, value in given.items() if key not in ("contrast", "alignments")}

    @property
    def contrast(self) -> str | None:
        """The name of the sequence that the target is contrasted to (``elsewhere``: with two sides another source)."""
        return self.told.get("contrast") or self.told.get("target_arguments", {}).get("contrast")

    @property
    def alignments(self) -> tuple[tuple[int, int], ...]:
        """Pairs of positions of target and contrast that Inseq compared, its own filling included."""
        pairs = self.told.get("alignments") or self.told.get("target_arguments", {}).get("alignments", ())
        return tuple((first, second) for first, second in pairs)

    @property
    def aggregation(self) -> tuple[tuple[str, Mapping[str, object]], ...]:
        """The aggregators with their options, in order; none where the scores are as the method gives them."""
        steps = self.told.get("aggregation", self.told.get("pipeline", ()))
        return tuple((name, options) for name, options in steps)

    @property
    def suffix(self) -> str:
        """The last part of the id: ``raw``, ``l2`` (norm over the width, columns sum to one), ``sum``."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def raises(self) -> str | None:
        """What the oracle said where it could not answer; there are no arrays then."""
        return self.told.get("raises")

    @property
    def start(self) -> int:
        """The first position of the target that is attributed."""
        return self.golden.start

    def sequence(self, name: str) -> Sequence:
        """A sequence of the model."""
        return self.golden.sequence(name)

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Every array by name, float32."""
        return {name: self._array(*place) for name, place in self.told.get("arrays", {}).items()}

    @property
    def source_scores(self) -> np.ndarray | None:
        """The scores of the source's positions, for models with two sides."""
        return self.arrays.get("source")

    @property
    def target_scores(self) -> np.ndarray | None:
        """The scores of the target's positions, the prompt included for models with one side."""
        return self.arrays.get("target")

    @property
    def step_scores(self) -> Mapping[str, np.ndarray]:
        """The step scores by name, without the prefix that they have among the arrays."""
        return {name[5:]: array for name, array in self.arrays.items() if name.startswith("step.")}

    def _array(self, at: int, shape: list[int]) -> np.ndarray:
        return self.golden.values[at : at + int(np.prod(shape))].reshape(shape)


@cache
def golden(name: str) -> Golden:
    """The file of that name, read once."""
    return Golden(name, json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


def names() -> tuple[str, ...]:
    """The names of all files."""
    return tuple(sorted(path.stem for path in DATA.glob("*.npz")))


def cases(
    name: str,
    method: str | None = None,
    target: str | None = None,
    *,
    suffix: str | None = None,
    attribute_target: bool | None = None,
) -> tuple[Case, ...]:
    """The answered cases of a file that are of that method, target, aggregation and side; None means any."""
    wanted = {"method": method, "target": target, "suffix": suffix, "attribute_target": attribute_target}
    asked = {key: value for key, value in wanted.items() if value is not None}
    answered = (case for case in golden(name).cases if not case.raises)
    return tuple(case for case in answered if all(getattr(case, key) == value for key, value in asked.items()))


def refused(name: str) -> Iterator[Case]:
    """The cases that the oracle could not answer: they are behaviours not to copy."""
    return (case for case in golden(name).cases if case.raises)
