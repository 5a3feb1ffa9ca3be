"""The training itself."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from interpd.errors import InvalidRequest
from interpd.zoo.training import Recipe, begun
from interpd.zoo.training import train as train_steps
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM
from interpd_backpack.training.checkpoint import State, load_checkpoint, save_checkpoint
from interpd_backpack.training.data import Tokens, read_texts
from interpd_backpack.training.loss import next_token_loss
from interpd_backpack.training.settings import TrainSettings
from interpd_backpack.training.vocabulary import tokenizer_for

CHECKPOINT, RECORD = "checkpoint", "training.json"
BETAS = (0.9, 0.99)
HELD_OUT_WINDOWS = 64
"""The most that one look at the held-out loss reads."""


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    folder: Path
    """Of model and tokenizer; a daemon can serve it."""
    parameters: int
    curve: tuple[tuple[int, float], ...]
    """(step, mean -log p of the held-out tokens, in nats)."""
    seconds: int
    """Of this run: without those before a checkpoint."""

    @property
    def held_out_loss(self) -> float:
        """In the end, in nats a token."""
        return self.curve[-1][1]

    @property
    def held_out_perplexity(self) -> float:
        """In the end."""
        return math.exp(self.held_out_loss)


def train(settings: TrainSettings, *, resume: bool = False, say: Callable[[str], None] = print) -> Trained:
    """A trained model in a folder of its own.

    With as many threads on the same machine, a training that was resumed gives the very weights of one that was not
    interrupted.

    Args:
        settings: Of what is trained.
        resume: Go on from the last checkpoint in ``settings.out``.
        say: Called with each line about the held-out loss; those of the steps are printed.

    Raises:
        InvalidRequest: Texts that are too short or cannot be read, no such tokenizer; nothing to resume, or a folder
            that has something and is not to be resumed.
    """
    if not resume and settings.out.exists() and any(settings.out.iterdir()):
        raise InvalidRequest(f"the folder {str(settings.out)!r} is not empty: resume its training, or name another")
    with begun(_recipe(settings), settings.steps.seed):
        return _trained(settings, resume, say)


def _trained(settings: TrainSettings, resume: bool, say: Callable[[str], None]) -> Trained:
    texts = read_texts(settings.files)
    tokenizer = tokenizer_for(settings.tokenizer, texts, settings.vocabulary)
    tokens = Tokens(tokenizer, texts, settings.held_out, settings.shape.n_positions + 1)
    model = made(settings, tokenizer)
    optimizer = _optimizer(model, settings)
    state = State(0, settings.to_dict(), tokens.digest, ())
    if resume:
        state = load_checkpoint(settings.out / CHECKPOINT, model, optimizer, state)
        say(f"going on after step {state.step}")
    run = _Run(settings, tokens, model, optimizer, say, list(state.curve))
    told = train_steps(
        model,
        _recipe(settings),
        run.loss_at,
        seed=settings.steps.seed,
        steps=settings.steps.steps,
        first=state.step,
        optimizer=optimizer,
        after=run.after,
    )
    trained = Trained(settings.out, model.num_parameters(), tuple(run.curve), told["seconds"])
    _save(trained, settings, model, tokenizer)
    return trained


def made(settings: TrainSettings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The untrained model: weights of standard deviation 0.02, outputs of residuals less."""
    shape = settings.shape
    fields = {
        "vocab_size": len(tokenizer),
        "n_embd": shape.n_embd,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_positions": shape.n_positions,
        "scale_attn_by_inverse_layer_idx": True,
        "activation_function": "gelu_pytorch_tanh",
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
        # one that is not said would be GPT-2's
        "bos_token_id": tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if settings.is_twin:
        return GPT2LMHeadModel(GPT2Config(**fields))
    senses = {"num_senses": shape.num_senses, "sense_intermediate_scale": shape.sense_intermediate_scale}
    model = BackpackForCausalLM(BackpackConfig(**fields, **senses))
    nn.init.normal_(model.backpack.sense_weight_net.c_attn.weight, std=settings.steps.sense_weight_std)
    return model


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, tokens: Tokens, rows: int) -> float:
    """Mean -log p of held-out tokens, in nats."""
    was_training = model.training
    model.eval()
    losses = [
        (next_token_loss(model, windows), windows.numel() - len(windows))
        for windows in tokens.held_out_windows(rows, HELD_OUT_WINDOWS)
    ]
    model.train(was_training)
    return sum(float(loss) * count for loss, count in losses) / sum(count for _, count in losses)


@dataclass
class _Run:
    """What happens at each step."""

    settings: TrainSettings
    tokens: Tokens
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    say: Callable[[str], None]
    curve: list[tuple[int, float]]

    def loss_at(self, step: int) -> Tensor:
        """Of the batch of a step."""
        steps = self.settings.steps
        return next_token_loss(self.model, self.tokens.windows(steps.rows, steps.seed, step))

    def after(self, done: int) -> None:
        """Looks at what is held out, and saves, when it is time."""
        is_last = done == self.settings.steps.steps
        if is_last or done % self.settings.told_every == 0:
            loss = held_out_loss(self.model, self.tokens, self.settings.steps.rows)
            self.curve.append((done, loss))
            self.say(f"after {done:5d} steps  held-out loss {loss:.4f}, perplexity {math.exp(loss):.2f}")
        if is_last or done % self.settings.saved_every == 0:
            state = State(done, self.settings.to_dict(), self.tokens.digest, tuple(self.curve))
            save_checkpoint(self.settings.out / CHECKPOINT, self.model, self.optimizer, state)


def _recipe(settings: TrainSettings) -> Recipe:
    steps = settings.steps
    return Recipe(
        steps=steps.steps,
        rows=steps.rows,
        threads=steps.threads,
        learning_rate=steps.learning_rate,
        weight_decay=steps.weight_decay,
        warm_up=steps.warm_up,
        constant_share=0.0,
        least_share=steps.least_share,
        told_every=settings.told_every,
    )


def _optimizer(model: PreTrainedModel, settings: TrainSettings) -> torch.optim.AdamW:
    decayed = [value for value in model.parameters() if value.dim() > 1]
    others = [value for value in model.parameters() if value.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.steps.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.steps.learning_rate, betas=BETAS)


def _save(
    trained: Trained, settings: TrainSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Model and tokenizer in the folder, and what is to be known of the training; the checkpoint stays."""
    folder = trained.folder
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        **settings.to_dict(),
        "files": [file.name for file in settings.files],
        "parameters": trained.parameters,
        "held_out_loss": trained.held_out_loss,
        "curve": trained.curve,
        "seconds": trained.seconds,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for left in (".new", ".old"):
        shutil.rmtree(folder / f"{CHECKPOINT}{left}", ignore_errors=True)
