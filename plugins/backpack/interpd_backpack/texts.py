"""Texts as the tokens of a model: those that are longer than it takes are read in pieces, or refused by their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interpd.errors import CallerError, InvalidRequest
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_backpack.evaluation.asking import windows
from interpd_backpack.evaluation.files import Document
from interpd_backpack.evaluation.long_texts import long_text_ids
from interpd_client import Model

Text = str | Document
"""A text, or one of a file (``evaluation.files.read_documents``), which is called by its place there."""


@dataclass(frozen=True)
class Pieces:
    """Texts in pieces that a model takes."""

    ids: tuple[tuple[int, ...], ...]
    """One behind the other; of most texts there is one."""
    n_cut: int
    """Texts that are several pieces."""
    most: int
    """Tokens of a piece."""

    def said(self) -> str:
        """That texts were cut, for notes; empty where none was."""
        if not self.n_cut:
            return ""
        said = "1 text is" if self.n_cut == 1 else f"{self.n_cut} texts are"
        return f"{said} longer than the {self.most} tokens that the model takes, and read in pieces"


def in_pieces(model: Model, texts: Sequence[Text]) -> Pieces:
    """The tokens of texts of any length; each piece is read as a text of its own."""
    most = model.info.max_positions
    found: list[tuple[int, ...]] = []
    n_cut = 0
    for text in texts:
        ids = _ids(model, text)
        parts = [ids] if not most else [piece.ids for piece in windows(ids, most, most)]
        n_cut += len(parts) > 1
        found += parts
    return Pieces(tuple(found), n_cut, most)


def whole(model: Model, texts: Sequence[Any], way_out: str = "shorten or leave out") -> list[Tokens]:
    """The tokens of texts, or of prompts of any other kind.

    Args:
        model: Whose tokenizer.
        texts: What can be a prompt, and documents.
        way_out: What is to be done with texts that are too long.

    Raises:
        CallerError: Texts that are longer than the model takes; the first is named, and they are counted.
    """
    found: list[Tokens] = []
    too_long: list[tuple[str, int]] = []
    for number, text in enumerate(texts):
        try:
            found.append(model.tokenize(text.text if isinstance(text, Document) else text))
        except InvalidRequest:
            length = len(_ids(model, text)) if isinstance(text, Text) else 0
            if not model.info.max_positions or length <= model.info.max_positions:
                raise
            too_long.append((_name(text, number), length))
    if too_long:
        (name, length), n = too_long[0], len(too_long)
        count = f"; {n} of the {len(texts)} texts are too long" if n > 1 else ""
        raise CallerError(
            f"{name} has {length} tokens, model {model.name!r} takes at most {model.info.max_positions}{count}: "
            f"{way_out} {'these' if n > 1 else 'it'}"
        )
    return found


def _name(text: Text, number: int) -> str:
    if isinstance(text, Document):
        return text.name
    return f"text {number} ({text[:SHOWN]!r}{' ...' if len(text) > SHOWN else ''})"


SHOWN = 40
"""Characters of a text that an error quotes."""


def _ids(model: Model, text: Text) -> tuple[int, ...]:
    said = text.text if isinstance(text, Document) else text

    def asked(part: str, special: bool) -> Tokens:
        return model.tokenize(Prompt(text=part, add_special_tokens=special))

    return long_text_ids(asked, said, model.info.max_positions, special=True)
