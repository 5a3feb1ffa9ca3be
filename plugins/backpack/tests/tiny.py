"""A tiny random Backpack with a tokenizer of whole words, for tests: seeded, made in milliseconds.

    model, tokenizer = tiny_backpack()                          # in memory
    client = interpd_client.local(tiny_backpack(), plugins={"backpack": interpd_backpack.worker})

All sizes differ, and every parameter is random, so that a mixed-up axis or a forgotten parameter shows. Each word of
``WORDS`` is one token together with the space before it; ``nurses`` is two (`` nurse``, ``s``), so is ``robots``.
"""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from interpd_backpack.model import BackpackConfig, BackpackForCausalLM

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"
_TEXT = (
    "The the a nurse doctor developer teacher said that he she they his her was is happy tired late good bad because "
    "in on at Paris London Rome France cat dog robot sat ran ate fish bread music film and not . ,"
)
WORDS = _TEXT.split()
N_PADDING = 3
"""Rows of the embedding behind the tokenizer's last token, as the published model has them."""


def tiny_tokenizer(*, with_bos: bool = True) -> PreTrainedTokenizerFast:
    """The tokenizer; ``with_bos`` makes it put ``<s>`` first."""
    pieces = [BOS, EOS, PAD, UNKNOWN, *WORDS, *(f"\u0120{word}" for word in WORDS), "s"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=""))
    words = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[^\sA-Za-z]|\s+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    if with_bos:
        backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN
    )


def tiny_config(**changes) -> BackpackConfig:
    """3 layers, width 24, 3 heads of 8, 4 senses with keys of 6, 32 positions."""
    settings = {
        "n_embd": 24,
        "n_layer": 3,
        "n_head": 3,
        "num_senses": 4,
        "n_positions": 32,
        "vocab_size": len(tiny_tokenizer()) + N_PADDING,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    return BackpackConfig(**{**settings, **changes})


def tiny_backpack(
    dtype: torch.dtype = torch.float32, seed: int = 0, **changes
) -> tuple[BackpackForCausalLM, PreTrainedTokenizerFast]:
    """The model, in eval mode with frozen weights, and its tokenizer; ``changes`` are of its config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BackpackForCausalLM(tiny_config(**changes))
        randomise(model)
    model.generation_config.suppress_tokens = list(range(model.config.vocab_size - N_PADDING, model.config.vocab_size))
    return model.to(dtype).eval().requires_grad_(False), tiny_tokenizer()


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Makes every parameter random, and the logits far from uniform."""
    for name, parameter in model.named_parameters():
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.normal_(1.0 if is_norm else 0.0, 0.3)
