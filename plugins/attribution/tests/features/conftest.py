"""Tokenised texts without a model."""

import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from interpd.engine.tokens import tokenize
from interpd.graph.ir import Prompt

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tokenizers"
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def spelled(tokenizer):
    def spell(prompt):
        given = {"text": prompt} if isinstance(prompt, str) else {"token_ids": tuple(prompt)}
        return tokenize(tokenizer, Prompt(**given), n_vocab=len(tokenizer))

    return spell


def tiny(name):
    return PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / f"{name}.json"), **SPECIAL)


@pytest.fixture(scope="session")
def gpt2():
    """Byte-level, adds nothing."""
    return spelled(tiny("tiny-gpt2"))


@pytest.fixture(scope="session")
def llama():
    """SentencePiece, adds ``<s>``."""
    return spelled(tiny("tiny-llama"))


@pytest.fixture(scope="session")
def t5():
    """SentencePiece, adds ``</s>``."""
    return spelled(tiny("tiny-t5"))


@pytest.fixture(scope="session")
def real_gpt2():
    """The vocabulary of GPT-2."""
    folder = Path(os.environ.get("INTERPD_SHARED", Path(__file__).resolve().parents[5] / "shared"))
    file = folder / "tokenizers" / "gpt2" / "tokenizer.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    return spelled(PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>"))
