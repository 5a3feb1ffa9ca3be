"""A prompt made of a template: its fields are the features."""

from collections.abc import Sequence
from string import Formatter
from typing import Any

from interpd.errors import CallerError
from interpd_attribution.features.covering import Part
from interpd_attribution.features.kinds import Features, Skip

Field = str | Sequence[str]


class TextTemplate:
    """A text with named fields; ``text`` is the prompt and ``features`` its fields.

        template = TextTemplate("{context} Q: {question}", context=[first, second], question="Who wrote it?")
        model.attribute(template.text, features=template.features)

    Args:
        template: As for ``str.format``, with names only: ``"{context}\\n\\nQ: {question}"``.
        joined_by: What stands between the texts of a field that is a list.
        fields: A text for each name. A list of texts is several features, ``context 1``, ``context 2``, ...

    Raises:
        CallerError: A name without a text, a text without a name, an empty text, a field that is no plain name.
    """

    def __init__(self, template: str, /, *, joined_by: str = "\n", **fields: Field) -> None:
        pieces = list(_pieces(template))
        names = {name for _, name in pieces if name is not None}
        if missing := sorted(names ^ set(fields)):
            said = "no text" if missing[0] in names else "no place in the template"
            raise CallerError(f"field {missing[0]!r} has {said}; the template has {', '.join(sorted(names)) or 'none'}")
        self._parts: list[Part] = []
        self._literals: list[Part] = []
        self.text = ""
        for literal, name in pieces:
            self._add(literal, None)
            if name is not None:
                self._add_field(name, fields[name], joined_by)

    @property
    def features(self) -> Features:
        """Its fields; what the template itself says is in no feature, and neither are special tokens."""
        return self.features_with()

    def features_with(self, *, literals: bool = False, special: bool = False, skip: Skip = ()) -> Features:
        """Its fields, and on request other features: what the template says between them, and special tokens."""
        parts = sorted([*self._parts, *(self._literals if literals else ())])

        def located(text: str) -> list[Part]:
            # a chat template may put something around it
            at = text.find(self.text)
            if at < 0:
                raise CallerError("the prompt is not this template's text: give template.text as the prompt")
            return [part._replace(start=part.start + at, stop=part.stop + at) for part in parts]

        return Features(located, special, skip)

    def __repr__(self) -> str:
        return f"TextTemplate({self.text!r}, fields {sorted({str(part.key) for part in self._parts})})"

    def _add_field(self, name: str, value: Field, joined_by: str) -> None:
        items = (
            [(name, value)] if isinstance(value, str) else [(f"{name} {n}", item) for n, item in enumerate(value, 1)]
        )
        for number, (label, item) in enumerate(items):
            if not isinstance(item, str) or not item.strip():
                raise CallerError(f"field {label!r} is {item!r}, expected a text that is not empty")
            if number:
                self._add(joined_by, None)
            self._add(item, label)
        if not items:
            raise CallerError(f"field {name!r} is an empty list, expected texts")

    def _add(self, text: str, label: str | None) -> None:
        start, self.text = len(self.text), self.text + text
        if label is not None:
            self._parts.append(Part(start, len(self.text), label, label))
        elif text.strip():
            self._literals.append(Part(start, len(self.text)))


def _pieces(template: str) -> list[tuple[str, str | None]]:
    try:
        parsed: list[tuple[str, Any, Any, Any]] = list(Formatter().parse(template))
    except ValueError as error:
        raise CallerError(f"{template!r} is no template: {error}; write {{{{ and }}}} for braces") from error
    for _, name, form, conversion in parsed:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise CallerError(f"field {name!r} of the template is no plain name; write {{context}}")
    return [(literal, name) for literal, name, _, _ in parsed]
