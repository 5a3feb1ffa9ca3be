"""What the scripts that train bundled models share: their command line, the steps of training, the files."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Args:
        steps: Of the optimiser, AdamW.
        rows: Of a step's batch.
        threads: Of the CPU: their number decides the order of sums.
        learning_rate: The greatest.
        weight_decay: Of AdamW.
        warm_up: Steps in which the learning rate rises to that.
        constant_share: The part of all steps by whose end it begins to fall.
        least_share: The part of it that it does not fall below.
        told_every: Steps from one line of progress to the next.
    """

    steps: int
    rows: int
    threads: int
    learning_rate: float
    weight_decay: float
    warm_up: int
    constant_share: float
    least_share: float
    told_every: int

    def share(self, step: int, steps: int) -> float:
        """Factor of the learning rate: a linear rise, a constant part, a linear fall."""
        fall = (1 - step / steps) / (1 - self.constant_share)
        return min(1.0, (step + 1) / self.warm_up, max(self.least_share, fall))


def arguments_of(doc: str | None, recipe: Recipe, folder: Path) -> argparse.ArgumentParser:
    """The command line of a script: ``--out`` (``folder`` by default), ``--seed`` and ``--steps``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=folder, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the texts")
    parser.add_argument("--steps", type=int, default=recipe.steps, help="fewer for a quick trial")
    return parser


def begin(recipe: Recipe, seed: int) -> None:
    """Makes this process compute what it computed the last time with this seed."""
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    # a tenth of the time of a small model, and only what is read before it is written would differ
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)


@contextmanager
def begun(recipe: Recipe, seed: int) -> Iterator[None]:
    """``begin``, for a block of a process that has other things to do, too."""
    threads, is_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fills, drawn = torch.utils.deterministic.fill_uninitialized_memory, torch.get_rng_state()
    try:
        begin(recipe, seed)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_strict)
        torch.utils.deterministic.fill_uninitialized_memory = fills
        torch.set_rng_state(drawn)


def train(
    model: PreTrainedModel,
    recipe: Recipe,
    loss_at: Callable[[int], Tensor],
    *,
    seed: int,
    steps: int,
    first: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    after: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """What the metrics say of the training. Trains in place, and prints how far it is.

    Args:
        model: Is left in evaluation mode.
        recipe: Its ``steps`` are those of ``steps``.
        loss_at: The loss of the batch of a step, with its graph.
        seed: That ``begin`` was given.
        steps: How many, those before ``first`` included.
        first: The step to go on with.
        optimizer: Its learning rate is set here; without one, AdamW that decays all weights.
        after: Called behind each step with how many are done.
    """
    if optimizer is None:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
    started = time.monotonic()
    model.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.share(step, steps)
        optimizer.zero_grad()
        loss = loss_at(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % recipe.told_every == 0 or step == steps - 1:
            print(f"step {step:5d}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:5.0f} s", flush=True)
        if after is not None:
            after(step + 1)
    model.eval()
    told = {"seed": seed, "steps": steps, "rows": recipe.rows, "threads": recipe.threads}
    return {**told, "seconds": round(time.monotonic() - started)}


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, **generation: Any) -> None:
    """Writes model and tokenizer, weights in half precision.

    Args:
        model: Becomes one of half precision.
        tokenizer: Goes beside it.
        folder: To write to.
        generation: What the model generates by, beside the tokenizer's end and padding, and greedily.
    """
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=32,
        **generation,
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def described(model: PreTrainedModel, folder: Path, *names: str) -> dict[str, Any]:
    """What the metrics say of a model: fields of its configuration, its parameters, the bytes of its weights."""
    shape = {name: getattr(model.config, name) for name in ("model_type", *names, "vocab_size")}
    weight_bytes = (folder / "model.safetensors").stat().st_size
    return {**shape, "parameters": model.num_parameters(), "weight_bytes": weight_bytes}
