"""Texts as tokens: what is trained on, and what is held out."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interpd.errors import InvalidRequest

LARGE_PRIME = 1_000_003
"""Parts the seeds of one training's steps from those of the next."""


def read_texts(files: tuple[Path, ...]) -> list[str]:
    """The texts of files.

    Raises:
        InvalidRequest: One that cannot be read, or is empty.
    """
    found = []
    for file in files:
        try:
            # line ends stay what they are, so that every character is counted
            with file.open(encoding="utf-8", newline="") as opened:
                text = opened.read()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the text {str(file)!r} cannot be read: {error}") from error
        if not text.strip():
            raise InvalidRequest(f"the text {str(file)!r} is empty")
        found.append(text)
    return found


class Tokens:
    """Tokens of texts, one after another, and windows of them.

    Args:
        tokenizer: Makes them; what it puts around texts is left out.
        texts: In order.
        held_out: The last part of each text.
        width: Tokens of a window: one more than the model reads, for the last one's next.

    Raises:
        InvalidRequest: Fewer tokens than a window has, in either part.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: list[str], held_out: float, width: int) -> None:
        trained, kept = [], []
        for text in texts:
            # a warning about the length of a text that is cut afterwards says nothing
            ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            cut = round(len(ids) * (1 - held_out))
            trained.append(ids[:cut])
            kept.append(ids[cut:])
        self.trained, self.held_out = torch.cat(trained), torch.cat(kept)
        self._width = width
        for what, ids in (("trained on", self.trained), ("held out", self.held_out)):
            if len(ids) < width:
                raise InvalidRequest(f"{len(ids)} tokens would be {what}; one window needs {width}: give more text")

    @property
    def digest(self) -> str:
        """Of all tokens."""
        joined = torch.cat([self.trained, self.held_out, torch.tensor([len(self.trained), self._width])])
        return hashlib.sha256(joined.numpy().tobytes()).hexdigest()

    def windows(self, rows: int, seed: int, step: int) -> Tensor:
        """``[rows, width]`` of what is trained on; a step of a seed always has the same."""
        generator = torch.Generator().manual_seed(seed * LARGE_PRIME + step)
        starts = torch.randint(len(self.trained) - self._width + 1, (rows,), generator=generator)
        return self.trained[starts[:, None] + torch.arange(self._width)]

    def held_out_windows(self, rows: int, most: int) -> Iterator[Tensor]:
        """``[rows or fewer, width]`` of what is held out, each of its tokens predicted once.

        Args:
            rows: In each.
            most: Windows in all; the first ones.
        """
        n_windows = min(most, (len(self.held_out) - 1) // (self._width - 1))
        starts = torch.arange(n_windows) * (self._width - 1)
        for part in starts.split(rows):
            yield self.held_out[part[:, None] + torch.arange(self._width)]
