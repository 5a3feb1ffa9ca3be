"""What an evaluation measures: its parts and their settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from interpd.errors import CallerError
from interpd_backpack.evaluation.bias import BiasSettings
from interpd_backpack.evaluation.collateral import CONTROL_PROMPTS, CollateralSettings
from interpd_backpack.evaluation.examples import ExampleSettings, read_examples
from interpd_backpack.evaluation.perplexity import PerplexitySettings
from interpd_backpack.evaluation.similarity import SimilaritySettings
from interpd_backpack.evaluation.topics import TopicSettings
from interpd_backpack.evaluation.word_pairs import read_word_pairs

PartSettings = (
    SimilaritySettings | BiasSettings | TopicSettings | ExampleSettings | PerplexitySettings | CollateralSettings
)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is measured: the parts that are not ``None``, in this order."""

    similarity: SimilaritySettings | None = None
    bias: BiasSettings | None = None
    topics: TopicSettings | None = None
    examples: ExampleSettings | None = None
    perplexity: PerplexitySettings | None = None
    collateral: CollateralSettings | None = None

    def parts(self) -> Iterator[tuple[str, PartSettings]]:
        """The parts that are asked for, by name."""
        for name in PARTS:
            if (settings := getattr(self, name)) is not None:
                yield name, settings


PARTS = tuple(field.name for field in fields(Suite))


@dataclass(frozen=True, kw_only=True)
class Data:
    """What parts need that are asked for by their names alone; each takes what concerns it.

    Args:
        pairs: Files of word pairs (``similarity``).
        jobs: A JSON file of professions and prompts (``bias``); ``None``: the published ones.
        bags: Topics: a JSON file of ``{topic: [words]}``, or that (``topics``).
        examples: A JSON Lines file of canonical examples, and the ``task`` that they are of (``examples``).
        task: One of the paper's tasks, or a criterion.
        hard_negatives: Such a file, of what should stay.
        texts: Files of held-out text (``perplexity``, and the ball of ``examples``).
        prompts: Control prompts (``collateral``).
        sense: The sense that is removed and scaled (``bias``).
    """

    pairs: str | Path | Sequence[str | Path] = ()
    jobs: str | Path | None = None
    bags: str | Path | Mapping[str, Sequence[str]] | None = None
    examples: Any = None
    task: Any = None
    hard_negatives: Any = ()
    texts: str | Path | Sequence[str | Path] = ()
    prompts: Sequence[str] = ()
    sense: int | None = None

    def settings(self, name: str) -> PartSettings:
        """The settings of a part. Raises ``CallerError`` where its data were not given."""
        texts = PerplexitySettings(texts=_files(self.texts, "texts"))
        match name:
            case "similarity":
                self._need(name, "pairs")
                return SimilaritySettings(files=_files(self.pairs, "pairs"))
            case "bias":
                return BiasSettings(file=self.jobs, sense=self.sense)
            case "topics":
                self._need(name, "bags")
                return TopicSettings(bags=self.bags)  # type: ignore[arg-type]
            case "examples":
                self._need(name, "examples")
                self._need(name, "task")
                general = texts if texts.texts else None
                return ExampleSettings(
                    examples=self.examples, task=self.task, hard_negatives=self.hard_negatives, general=general
                )
            case "perplexity":
                self._need(name, "texts")
                return texts
            case _:
                return CollateralSettings(prompts=tuple(self.prompts) or CONTROL_PROMPTS)

    def has(self, name: str) -> bool:
        """Whether what a part is about was given; of collateral that is the edit."""
        if name == "bias":
            return self.jobs is not None or self.sense is not None
        needed = {"similarity": "pairs", "topics": "bags", "examples": "examples", "perplexity": "texts"}.get(name)
        return needed is None or bool(getattr(self, needed))

    def _need(self, name: str, field: str) -> None:
        if not getattr(self, field):
            raise CallerError(
                f"the part {name!r} needs {field}: give {field}=..., see interpd_backpack.evaluation.Data"
            )


def suite_of(asked: "Suite | str | Sequence[str] | None", data: Mapping[str, Any], *, has_edit: bool) -> Suite:
    """The suite that is meant.

    Args:
        asked: A suite; names of parts; ``None``: all parts whose data or settings are there; where there are none at
            all, bias, which has data of its own.
        data: Fields of ``Data``, and of the settings of the parts that are named (``n_samples`` of ``topics``).
        has_edit: Whether an edit is compared; without one there is no collateral.

    Raises:
        CallerError: No such part or field, a part without its data, or no part at all.
    """
    if isinstance(asked, Suite):
        if data:
            raise CallerError(f"a suite has its own data; {sorted(data)[0]!r} belongs to names of parts")
        found = asked
    else:
        own = {field.name for field in fields(Data)}
        given = Data(**{name: value for name, value in data.items() if name in own})
        details = {name: value for name, value in data.items() if name not in own}
        if asked is None:
            bias = not data or bool(details.keys() & {field.name for field in fields(BiasSettings)})
            names = [name for name in PARTS if given.has(name) or (bias and name == "bias")]
            names = [name for name in names if has_edit or name != "collateral"]
        else:
            names = [asked] if isinstance(asked, str) else list(asked)
        _refuse_unknown(names, PARTS, "part")
        found = replace(Suite(), **_detailed({name: given.settings(name) for name in names}, details))
    if not any(found.parts()):
        raise CallerError(f"there is nothing to measure: name parts of {', '.join(PARTS)}, and give their data")
    return found


def read_files(settings: PartSettings) -> None:
    """Reads all files of a part, to know what is wrong with one before anything runs. Raises ``CallerError``."""
    match settings:
        case SimilaritySettings():
            for path in settings.files:
                read_word_pairs(path)
        case BiasSettings():
            settings.read()
        case TopicSettings():
            settings.topics()
        case ExampleSettings():
            for given in (settings.examples, settings.hard_negatives):
                if isinstance(given, str | Path):
                    read_examples(given)
            if settings.general is not None:
                settings.general.all_documents()
        case PerplexitySettings():
            settings.all_documents()


def _detailed(parts: Mapping[str, PartSettings], details: Mapping[str, Any]) -> dict[str, PartSettings]:
    """Settings with the fields that were given by name, each in the parts that have it. Raises ``CallerError``."""
    fields_of = {name: {field.name for field in fields(settings)} for name, settings in parts.items()}
    _refuse_unknown(details, sorted({field.name for field in fields(Data)}.union(*fields_of.values())), "data")
    return {
        name: replace(settings, **{key: value for key, value in details.items() if key in fields_of[name]})
        for name, settings in parts.items()
    }


def _files(given: str | Path | Sequence[str | Path], name: str) -> tuple[str | Path, ...]:
    found = (given,) if isinstance(given, str | Path) else tuple(given)
    if wrong := [one for one in found if not isinstance(one, str | Path)]:
        form = "word, word and rating, parted by tabs, on each line" if name == "pairs" else "text, or JSON Lines"
        raise CallerError(f"{name} are files, got {wrong[0]!r}: write what you have to one ({form}), and give its path")
    return found


def _refuse_unknown(names: Any, known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            said = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise CallerError(f"there is no {what} {name!r}{said}")
