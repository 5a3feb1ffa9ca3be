"""Texts that were continued under several edits, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from html import escape
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.views import Shown

NARROWEST = 28
"""Characters of a column in a terminal; where there is no room for that, variants are below one another."""
CHANGED = "bold magenta"


@dataclass(frozen=True)
class Prompted:
    """What was continued."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Continuation:
    """What was generated for a prompt under a variant."""

    token_ids: tuple[int, ...]
    strings: tuple[str, ...]
    """What each token adds to the text."""
    text: str
    stop_reason: str
    """``length``, ``eos``, ``stop_string`` or ``stop_token``."""


@dataclass(frozen=True)
class Comparison:
    """Two continuations of one prompt."""

    first_difference: int | None
    """The step at which they part; ``None``: they are equal."""
    marks: tuple[bool, ...]
    """For each token of the second, whether it is not in the first (as ``diff`` has it)."""
    share_kept: float
    """How many of the first's tokens are in the second, in order."""


@dataclass(frozen=True, eq=False, repr=False)
class Variants(Shown):
    """Continuations of prompts under several edits."""

    names: tuple[str, ...]
    """Of the variants."""
    digests: tuple[str, ...]
    """Of their edits; empty for the model as it is and for what was recorded by hand."""
    prompts: tuple[Prompted, ...]
    continuations: tuple[tuple[Continuation, ...], ...]
    """For each prompt, for each variant."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How they were generated; all variants of prompt n began with ``seed + n``."""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Continuation:
        """The continuation of the only prompt under a variant."""
        if len(self.prompts) != 1:
            raise CallerError(f"there are {len(self.prompts)} prompts: take of({name!r}, prompt=...)")
        return self.of(name)

    def of(self, name: str, prompt: int = 0) -> Continuation:
        """The continuation of a prompt under a variant. Raises ``CallerError`` for one that is not there."""
        if not 0 <= prompt < len(self.prompts):
            raise CallerError(f"prompt {prompt} is not there: there are {len(self.prompts)}, from 0")
        return self.continuations[prompt][self._place(name)]

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """For each variant the text that it adds to each prompt."""
        return {name: tuple(row[place].text for row in self.continuations) for place, name in enumerate(self.names)}

    def compare(self, name: str, base: str | None = None, prompt: int = 0) -> Comparison:
        """How a variant's continuation differs from that of another, the first one when ``base`` is left out."""
        first, second = self.of(base or self.names[0], prompt), self.of(name, prompt)
        return compared(first.token_ids, second.token_ids)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each prompt and variant, for ``pandas.DataFrame``."""
        return [
            {
                "prompt": prompt.text,
                "variant": name,
                "text": one.text,
                "n_tokens": len(one.token_ids),
                "stop_reason": one.stop_reason,
                "first_difference": self.compare(name, prompt=number).first_difference,
            }
            for number, prompt in enumerate(self.prompts)
            for name, one in zip(self.names, self.continuations[number], strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "names": list(self.names),
            "digests": list(self.digests),
            "prompts": [{"text": one.text, "ids": list(one.ids)} for one in self.prompts],
            "continuations": [
                [
                    {
                        "token_ids": list(one.token_ids),
                        "strings": list(one.strings),
                        "text": one.text,
                        "stop_reason": one.stop_reason,
                    }
                    for one in row
                ]
                for row in self.continuations
            ],
            "options": {name: value for name, value in self.options.items() if _is_plain(value)},
            "info": dict(self.info),
        }

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise CallerError(f"there is no variant {name!r}; there are {', '.join(map(repr, self.names))}")
        return self.names.index(name)

    def _heading(self) -> str:
        n, how = len(self.prompts), f"seed {self.options['seed']}" if "seed" in self.options else "greedy"
        return f"{len(self.names)} variants of {n} prompt{'s'[: n != 1]}, {how}"

    def _columns(self, prompt: int) -> Iterator[tuple[str, Continuation, Comparison]]:
        for name, one in zip(self.names, self.continuations[prompt], strict=True):
            yield name, one, self.compare(name, prompt=prompt)

    def _body(self) -> str:
        note = f'<p class="note">Marked: not in {escape(self.names[0])!r}.</p>' if len(self.names) > 1 else ""
        parts = [note]
        for number, prompt in enumerate(self.prompts):
            columns = list(self._columns(number))
            heads = "".join(f'<th class="w">{escape(name)} <i>{_parting(found)}</i></th>' for name, _, found in columns)
            cells = "".join(f'<td class="w">{_marked_html(one, found)}</td>' for _, one, found in columns)
            table = f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
            parts.append(f'<h4>{escape(prompt.text)}</h4><div class="scroll">{table}</div>')
        return "".join(parts)

    def _rendered(self, width: int) -> RenderableType:
        parts: list[RenderableType] = [Text(self._heading(), "bold")]
        beside = width // len(self.names) >= NARROWEST
        for number, prompt in enumerate(self.prompts):
            columns = list(self._columns(number))
            table = Table(box=box.SIMPLE_HEAD, title=Text(prompt.text), title_justify="left", show_header=beside)
            texts = [_marked_text(one, found) for _, one, found in columns]
            if beside:
                for name, _, found in columns:
                    table.add_column(Text(name).append(f"  {_parting(found)}", "dim"), ratio=1)
                table.add_row(*texts)
            else:
                for (name, _, found), text in zip(columns, texts, strict=True):
                    table.add_row(Text(name, "bold").append(f"\n{_parting(found)}", "not bold dim"), text)
            parts.append(table)
        return Group(*parts)


def compared(first: Sequence[int], second: Sequence[int]) -> Comparison:
    """How the second row of tokens differs from the first."""
    parts = next((step for step, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if parts is None and len(first) != len(second):
        parts = min(len(first), len(second))
    marks, kept = [True] * len(second), 0
    for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
        marks[block.b : block.b + block.size] = [False] * block.size
        kept += block.size
    return Comparison(parts, tuple(marks), kept / len(first) if first else 1.0)


def _parting(found: Comparison) -> str:
    return "" if found.first_difference is None else f"differs from token {found.first_difference + 1} on"


def _runs(one: Continuation, found: Comparison) -> Iterator[tuple[str, bool]]:
    """Tokens that stand beside one another and are marked alike, as one text.

    Blanks before marked words are not marked, and the one at the beginning, which parts the prompt, is not shown.
    """
    start = 0
    for place in range(1, len(one.strings) + 1):
        if place == len(one.strings) or found.marks[place] != found.marks[start]:
            run = "".join(one.strings[start:place])
            word = run.lstrip(" ")
            if start and len(word) < len(run):
                yield run[: len(run) - len(word)], False
            if word:
                yield word, found.marks[start]
            start = place


def _marked_html(one: Continuation, found: Comparison) -> str:
    return "".join(
        f'<mark class="p" style="--a:.25">{escape(text)}</mark>' if is_new else escape(text)
        for text, is_new in _runs(one, found)
    )


def _marked_text(one: Continuation, found: Comparison) -> Text:
    text = Text()
    for run, is_new in _runs(one, found):
        text.append(run, CHANGED if is_new else "")
    return text


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | tuple | list) or value is None
