"""Templates of inputs and outputs, ``{context} {current}``, and where in the finished text their parts stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from interpd.errors import CallerError

PARTS = ("current", "context")


@dataclass(frozen=True)
class Filled:
    """A text, and where its parts are."""

    text: str
    parts: Mapping[str, tuple[int, int]]
    """First character, and the one behind the last, by name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", dict(self.parts))

    def joined(self, other: "Filled", separator: str) -> "Filled":
        """This text and another behind it, with the separator between them unless one of them has it there."""
        has_it = self.text.endswith(separator) or other.text.startswith(separator)
        head = self.text if has_it else self.text + separator
        moved = {name: (start + len(head), end + len(head)) for name, (start, end) in other.parts.items()}
        return Filled(head + other.text, {**self.parts, **moved})


@dataclass(frozen=True)
class Template:
    """A text with a place for ``{current}``, and perhaps one for ``{context}``; ``{{`` and ``}}`` are braces."""

    text: str
    name: str
    """What it is called where it is refused."""

    def __post_init__(self) -> None:
        fields = [field for _, field in self._pieces() if field is not None]
        unknown = [field for field in fields if field not in PARTS]
        if unknown:
            raise CallerError(f"{self.name} {self.text!r} has {{{unknown[0]}}}; expected {{current}} and {{context}}")
        twice = [field for field in PARTS if fields.count(field) > 1]
        if twice:
            raise CallerError(
                f"{self.name} {self.text!r} has {{{twice[0]}}} {fields.count(twice[0])} times; write it once"
            )

    def has(self, part: str) -> bool:
        """Whether it has a place for the part."""
        return any(field == part for _, field in self._pieces())

    def filled(self, prefix: str = "", /, **texts: str) -> Filled:
        """The text with these parts; their names get ``prefix`` before them."""
        text, parts = "", {}
        for literal, field in self._pieces():
            text += literal
            if field is not None:
                parts[prefix + field] = (len(text), len(text) + len(texts[field]))
                text += texts[field]
        return Filled(text, parts)

    def before(self, part: str, prefix: str = "", /, **texts: str) -> Filled:
        """What stands before a part."""
        whole = self.filled(prefix, **{part: ""}, **texts)
        end, _ = whole.parts[prefix + part]
        earlier = {name: span for name, span in whole.parts.items() if span[1] <= end and name != prefix + part}
        return Filled(whole.text[:end], earlier)

    def behind(self, part: str) -> str:
        """The text between a part and the next one, or the end."""
        pieces = list(self._pieces())
        place = next(number for number, (_, field) in enumerate(pieces) if field == part)
        return pieces[place + 1][0] if place + 1 < len(pieces) else ""

    def _pieces(self) -> list[tuple[str, str | None]]:
        """(literal text, the part behind it)."""
        try:
            found = [(literal, field) for literal, field, spec, conversion in Formatter().parse(self.text)]
            odd = any(spec or conversion for _, _, spec, conversion in Formatter().parse(self.text))
        except ValueError as error:
            raise CallerError(f"{self.name} {self.text!r} is no template: {error}; write {{{{ for a brace") from error
        if odd:
            raise CallerError(
                f"{self.name} {self.text!r}: a place is {{current}} or {{context}}, with nothing else in it"
            )
        return found
