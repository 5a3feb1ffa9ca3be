"""Tokenizers that are made of the texts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from interpd.errors import InvalidRequest
from interpd_backpack.training.settings import TRAINED_TOKENIZERS

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"


def tokenizer_for(name: str | Path, texts: Sequence[str], n_words: int) -> PreTrainedTokenizerBase:
    """A tokenizer.

    Args:
        name: ``char``, ``byte``, ``word``, or a folder that has one.
        texts: Whose characters or words get tokens.
        n_words: The most that ``word`` keeps.

    Raises:
        InvalidRequest: A folder without a tokenizer.
    """
    if name in TRAINED_TOKENIZERS:
        made = {"char": _of_characters, "byte": _of_bytes, "word": _of_words}[str(name)]
        return PreTrainedTokenizerFast(
            tokenizer_object=made(texts, n_words),
            pad_token=PAD,
            eos_token=EOS,
            unk_token=UNKNOWN,
            padding_side="right",
            clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask"],
        )
    if not Path(name).is_dir():
        known = ", ".join(TRAINED_TOKENIZERS)
        raise InvalidRequest(f"tokenizer is {str(name)!r}, expected one of {known}, or a folder that has a tokenizer")
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"the folder {str(name)!r} has no tokenizer that transformers can read: {error}") from None


def _of_characters(texts: Sequence[str], _n_words: int) -> Tokenizer:
    characters = sorted({character for text in texts for character in text})
    backend = _word_level(characters)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _of_bytes(_texts: Sequence[str], _n_words: int) -> Tokenizer:
    backend = _word_level(sorted(pre_tokenizers.ByteLevel.alphabet()))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
    ])  # fmt: skip
    backend.decoder = decoders.ByteLevel()
    return backend


def _of_words(texts: Sequence[str], n_words: int) -> Tokenizer:
    """A word's token holds the space before it, as in byte-level vocabularies."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text))
    backend = _word_level([word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:n_words]])
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return backend


def _word_level(words: Sequence[str]) -> Tokenizer:
    return Tokenizer(
        models.WordLevel({word: i for i, word in enumerate([PAD, EOS, UNKNOWN, *words])}, unk_token=UNKNOWN)
    )
