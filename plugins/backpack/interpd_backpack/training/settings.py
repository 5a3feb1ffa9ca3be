"""What is trained, on what, and how. No torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interpd.errors import CallerError

TRAINED_TOKENIZERS = ("char", "byte", "word")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of the model; the defaults are those of the tiny recipe, minutes on a CPU.

    Args:
        n_embd: Width.
        n_layer: Blocks of the transformer.
        n_head: Heads of each.
        n_positions: Tokens of a text.
        num_senses: k, of the Backpack; a twin has none.
        sense_intermediate_scale: Width inside the sense network's last layer, in multiples of ``n_embd``.
    """

    n_embd: int = 128
    n_layer: int = 4
    n_head: int = 4
    n_positions: int = 128
    num_senses: int = 8
    sense_intermediate_scale: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise CallerError(f"{name} is {value}, expected 1 or more")
        if self.n_embd % self.n_head:
            raise CallerError(f"n_embd {self.n_embd} is no multiple of n_head {self.n_head}")
        if self.num_senses > self.n_embd:
            raise CallerError(f"num_senses {self.num_senses} is greater than n_embd {self.n_embd}")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Of the optimiser, AdamW, without decay of biases and norms, on gradients of norm 1 at most.

    Args:
        steps: How many.
        rows: Texts of ``n_positions`` tokens in each.
        learning_rate: The greatest; it rises in a line and then falls in a line.
        least_share: The part of it that is left in the end.
        warm_up: Steps in which it rises.
        weight_decay: Of matrices and embeddings.
        seed: Of the weights and of the order of the texts.
        threads: Of the CPU; their number decides the order of sums.
        sense_weight_std: Standard deviation of what the sense weights' matrix begins with. From the usual 0.02 all
            senses begin alike, and part late.
    """

    steps: int = 2000
    rows: int = 12
    learning_rate: float = 1e-3
    least_share: float = 0.1
    warm_up: int = 100
    weight_decay: float = 0.1
    seed: int = 0
    threads: int = 1
    sense_weight_std: float = 0.2

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "warm_up", "threads"):
            if getattr(self, name) < 1:
                raise CallerError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.learning_rate < 1:
            raise CallerError(f"learning_rate is {self.learning_rate}, expected a number between 0 and 1")
        if not self.sense_weight_std > 0:
            raise CallerError(f"sense_weight_std is {self.sense_weight_std}, expected a number above 0")
        if not 0 <= self.least_share <= 1:
            raise CallerError(f"least_share is {self.least_share}, expected a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What ``train`` does.

    Args:
        files: Texts in UTF-8.
        out: The folder of the model, which a daemon can serve.
        tokenizer: ``char`` (one token for each character of the texts), ``byte`` (any text), ``word`` (the most
            frequent words) or a folder with a tokenizer.
        vocabulary: Words that ``word`` keeps.
        is_twin: Train a transformer of that shape instead, to compare with.
        shape: Of the model.
        steps: Of the optimiser.
        held_out: The last part of each text, which is not trained on.
        told_every: Steps from one line of progress, with the loss on what is held out, to the next.
        saved_every: Steps from one checkpoint to the next; there is one at the end.
    """

    files: tuple[Path, ...]
    out: Path
    tokenizer: str | Path = "char"
    vocabulary: int = 4096
    is_twin: bool = False
    shape: Shape = Shape()
    steps: Steps = Steps()
    held_out: float = 0.1
    told_every: int = 100
    saved_every: int = 500

    def __post_init__(self) -> None:
        if not self.files:
            raise CallerError("there are no text files to train on")
        if not 0 < self.held_out < 1:
            raise CallerError(f"held_out is {self.held_out}, expected a share between 0 and 1")
        for name in ("told_every", "saved_every", "vocabulary"):
            if getattr(self, name) < 1:
                raise CallerError(f"{name} is {getattr(self, name)}, expected 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """What decides the numbers: without folders and without how often it is told."""
        return {
            "tokenizer": str(self.tokenizer),
            "vocabulary": self.vocabulary,
            "is_twin": self.is_twin,
            "held_out": self.held_out,
            "shape": asdict(self.shape),
            "steps": asdict(self.steps),
        }
