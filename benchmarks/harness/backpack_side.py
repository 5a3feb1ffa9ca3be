"""interpd in one process, with the Backpack plugin: its model alone, and as its users call it."""

import sys
from collections.abc import Callable, Sequence

import interpd_client
import numpy as np
import torch
from interpd_backpack.edits import Edit, Scale
from interpd_backpack.model import BackpackForCausalLM
from working import work

torch.set_num_threads(1)
CLIENT = interpd_client.local(sys.argv[1], plugins=["backpack"], name="bench")
BACKPACK = CLIENT.model("bench").backpack
MODEL = BackpackForCausalLM.from_pretrained(sys.argv[1]).eval().requires_grad_(False)

Scaled = tuple[int, int, float]
"""(token, sense, factor)."""


@torch.inference_mode()
def forward(ids: Sequence[int]) -> Callable[[], np.ndarray]:
    """The logits behind a text whose tokens' senses are known: ``[d_vocab]``."""
    given = torch.tensor([ids])
    MODEL.backpack.sense_table(given)

    @torch.inference_mode()
    def run() -> np.ndarray:
        return MODEL(given, logits_to_keep=1, use_cache=False).logits[0, -1].numpy()

    return run


@torch.inference_mode()
def decode(ids: Sequence[int], n_steps: int) -> Callable[[], np.ndarray]:
    """The last ``n_steps`` tokens of a text one after the other, behind the rest of it, which is cached."""
    given = torch.tensor([ids])
    MODEL.backpack.sense_table(given)
    cache = MODEL(given[:, :-n_steps], logits_to_keep=1, use_cache=True).past_key_values

    @torch.inference_mode()
    def run() -> np.ndarray:
        for at in range(len(ids) - n_steps, len(ids)):
            logits = MODEL(given[:, at : at + 1], past_key_values=cache, use_cache=True).logits
        return logits[0, -1].numpy()

    return run


def edit_of(scaled: Scaled) -> Edit:
    """One sense of one token, scaled."""
    token, sense, factor = scaled
    return BACKPACK.edit(Scale(token, sense, factor), name=f"{token} {sense} {factor}")


def effects(ids: Sequence[int], edits: Sequence[Scaled], targets: Sequence[int]) -> Callable[[], np.ndarray]:
    """Logits of targets behind a text under each edit, from one forward pass: ``[edit target]``."""
    asked = [edit_of(one) for one in edits]
    return lambda: BACKPACK.effects(list(ids), asked, targets=list(targets)).logits_after[:, 0]


def variants(prompt: str, edits: Sequence[Scaled], n_new: int, together: bool) -> Callable[[], np.ndarray]:
    """New tokens under each edit, in one request or in one for each: ``[edit step]``."""
    asked = [edit_of(one) for one in edits]
    groups = [asked] if together else [[one] for one in asked]

    def run() -> np.ndarray:
        found = [BACKPACK.generate(prompt, group, max_new_tokens=n_new) for group in groups]
        return np.array([one.token_ids for each in found for one in each.continuations[0]])

    return run


def bias(prompt: str, words: Sequence[int], pair: Sequence[int], factors: Sequence[float]) -> Callable[[], np.ndarray]:
    """The bias of every sense of every word under every factor: ``[word sense factor]``."""

    def run() -> np.ndarray:
        cases = BACKPACK.rank_bias(words, [prompt], tuple(pair)).cases
        senses = range(cases.n_senses)
        return np.array([[cases.bias(word, sense, factors) for sense in senses] for word in range(len(words))])

    return run


if __name__ == "__main__":
    work({"forward": forward, "decode": decode, "effects": effects, "variants": variants, "bias": bias})
