"""Step functions by name, as the workers of a model tell of them."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from interpd.errors import CallerError
from interpd.graph.schema import Manifest

LISTED_BY = "attribution.step_scores"
"""The method whose documentation lists them."""

_LINE = re.compile(r"- (?P<name>\w+)\((?P<options>.*?)\)(?: \[(?P<notes>[^\]]*)\])?: (?P<summary>.*)")


@dataclass(frozen=True)
class StepFunction:
    """A score of attributed tokens: a target, a step score."""

    name: str
    options: tuple[str, ...]
    """``top_k: int = 0``, ..., written behind the name: ``kl_divergence(top_k=10)``."""
    contrastive: bool
    """Whether it needs a foil."""
    differentiable: bool
    """Whether it can be a target of methods that take gradients."""
    summary: str
    origin: str = ""
    """The distribution that it comes from, where that is another package: ``my-package 1.0``."""

    def __str__(self) -> str:
        of = f"\nOf {self.origin}." if self.origin else ""
        return f"{self.name}({', '.join(self.options)}): {self.summary}{of}"


def step_functions(manifest: Manifest) -> dict[str, StepFunction]:
    """All that the workers have: the plugin's own, and those of other packages."""
    found = (_LINE.fullmatch(line) for line in _lines(manifest))
    return {match["name"]: _of(match) for match in found if match}


def origins(manifest: Manifest) -> dict[str, str]:
    """Ids of methods that other packages bring, and the distribution that each comes from."""
    said = (line[2:].partition(": ") for line in _lines(manifest) if line.startswith("= "))
    return {id_: origin for id_, _, origin in said}


def problems(manifest: Manifest) -> list[str]:
    """Of each entry point that the workers do not use: its distribution, its name, and why."""
    return [line[2:] for line in _lines(manifest) if line.startswith("! ")]


def name_of(written: str) -> str:
    """The name of a step function with or without its options."""
    return written.partition("(")[0].strip()


def check_names(
    known: Mapping[str, StepFunction],
    written: Iterable[str],
    hint: Callable[[str, list[str]], str] = lambda name, near: "",
) -> None:
    """Raises ``CallerError`` for a name that there is not; ``hint`` has more to say of it and the names near it."""
    for name in map(name_of, written):
        if known and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            said = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise CallerError(f"no step function {name!r}; {said}{hint(name, near)}")


def check_step_functions(known: Mapping[str, StepFunction], written: Iterable[str], *, has_foil: bool) -> None:
    """Raises ``CallerError`` for a name that there is not, a foil that is missing, and one that nothing looks at."""
    names = [name_of(one) for one in written]
    check_names(known, names)
    contrastive = [name for name in names if name in known and known[name].contrastive]
    if contrastive and not has_foil:
        raise CallerError(f"{contrastive[0]!r} contrasts with a foil: give contrast= (--contrast)")
    if known and has_foil and not contrastive:
        among = ", ".join(name for name, one in known.items() if one.contrastive)
        raise CallerError(f"contrast is given, but neither target nor step_scores look at it; those that do: {among}")


def _lines(manifest: Manifest) -> list[str]:
    op = manifest.ops.get(LISTED_BY)
    return [line.strip() for line in (op.doc if op else "").splitlines()]


def _of(match: re.Match[str]) -> StepFunction:
    notes = (match["notes"] or "").split(",")
    options = tuple(option for option in match["options"].split(", ") if option)
    is_contrastive, is_flat = "needs a foil" in notes, "no gradient" in notes
    origin = next((note.removeprefix("of ") for note in notes if note.startswith("of ")), "")
    return StepFunction(match["name"], options, is_contrastive, not is_flat, match["summary"], origin)
