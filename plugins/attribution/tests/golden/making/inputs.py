"""The models and the texts that are attributed: short, forced, and with what they are contrasted to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tiny
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

REPOSITORY = Path(__file__).resolve().parents[5]

GPT2, LLAMA, T5 = tiny.NAMES
STORIES, PLANS = "stories260K", "capp-gpt2"
PHONEMES, LETTERS = "g2p-bart-us", "aren-transliteration"
MODELS = (*tiny.NAMES, STORIES, PLANS, PHONEMES, LETTERS)
ENCODER_DECODER = (T5, PHONEMES, LETTERS)

_DATED = "<SOS>|geometry_prismatic|holes_normal|external_threads_no|surface_finish_good|tolerance_medium"


@dataclass(frozen=True)
class Texts:
    """One forced continuation of one model.

    ``foil`` has as many tokens as ``target`` and the same prompt; ``short`` has one fewer in the continuation (the
    alignment is filled from the right); ``elsewhere`` ends like ``target`` after another prompt (in encoder-decoder
    models: another source, ``source_elsewhere``).
    """

    source: str
    target: str
    foil: str
    short: str
    elsewhere: str
    source_elsewhere: str | None = None


TEXTS: Mapping[str, Texts] = {
    # the tiny models speak no language: these are words that they find likely, so that the scores are not tiny too
    GPT2: Texts(
        "The nurse said that",
        "The nurse said that on onave John John",
        "The nurse said thatyyineine job",
        "The nurse said thatyyine job",
        "The cat said that on onave John John",
    ),
    LLAMA: Texts(
        "The nurse said that",
        "The nurse said that tire wereto and",
        "The nurse said thatme tired.ab jo",
        "The nurse said thatme tired.ab",
        "The cat said that tire wereto and",
    ),
    T5: Texts(
        "The nurse and the doctor",
        "The Thememe",
        "Wababal",
        "Wabal",
        "The Thememe",
        "The cat and the teacher",
    ),
    STORIES: Texts(
        "Lily was sad because",
        "Lily was sad because she loved to play",
        "Lily was sad because it is in the",
        "Lily was sad because he went up",
        "The cat was sad because she loved to play",
    ),
    PLANS: Texts(
        f"{_DATED}|batch_size_small",
        f"{_DATED}|batch_size_small|Turning|Drilling|Tapping|<EOC>",
        f"{_DATED}|batch_size_small|Milling|Boring|Reaming|<EOS>",
        f"{_DATED}|batch_size_small|SLM|Boring|<EOC>",
        f"{_DATED}|batch_size_mass|Turning|Drilling|Tapping|<EOC>",
    ),
    PHONEMES: Texts("nurse", "nˈɜɹs", "tˌIdz", "tIdz", "nˈɜɹs", "purse"),
    LETTERS: Texts("بغداد", "baghd</s>", "mohma</s>", "mohm</s>", "baghd</s>", "محمود"),
}


class PairedTokenizer(PreTrainedTokenizerFast):
    """Two vocabularies behind one face: texts are spelled by the one of their side, ids by the one used last."""

    def _switch_to_input_mode(self) -> None:
        self._tokenizer = self.sides[0]

    def _switch_to_target_mode(self) -> None:
        self._tokenizer = self.sides[1]
        self.is_target_last = True

    def __call__(self, text: object = None, **options: object) -> object:
        """The ids; what it was asked for last decides how ids are spelled."""
        self.is_target_last = text is None
        return super().__call__(text, **options)

    def convert_ids_to_tokens(self, ids: object, skip_special_tokens: bool = False) -> object:
        """The spelling of ids (both sides know their special tokens)."""
        if isinstance(ids, int):
            return self._spelled(ids)
        return [self._spelled(int(index)) for index in ids]

    def _decode(self, *ids: object, **options: object) -> str:
        """The text of ids, which only generation asks for: the target's."""
        source, self._tokenizer = self._tokenizer, self.sides[1]
        try:
            return super()._decode(*ids, **options)
        finally:
            self._tokenizer = source

    def _spelled(self, index: int) -> str | None:
        source, target = self.sides
        first, second = (target, source) if self.is_target_last else (source, target)
        return first.id_to_token(index) or second.id_to_token(index)


def shared() -> Path:
    """The folder with the real models."""
    return Path(os.environ.get("INTERPD_SHARED", REPOSITORY.parent / "shared"))


def model(name: str) -> PreTrainedModel:
    """A fresh model, with attention that shows its weights."""
    if name in tiny.NAMES:
        return tiny.model(name)
    kind = AutoModelForSeq2SeqLM if name in ENCODER_DECODER else AutoModelForCausalLM
    made = kind.from_pretrained(shared() / "models" / name, attn_implementation="eager").eval()
    made.config._name_or_path = name
    return made


_SPECIAL = {
    STORIES: {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    PLANS: {"unk_token": "<PAD>", "pad_token": "<PAD>", "bos_token": "<SOS>", "eos_token": "<EOS>"},
    PHONEMES: {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"},
    LETTERS: {"unk_token": "<blank>", "pad_token": "<blank>", "bos_token": "<s>", "eos_token": "</s>"},
}


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Its tokenizer, by file: the class that the folders name is unknown to older versions of transformers."""
    if name in tiny.NAMES:
        return tiny.tokenizer(name)
    folder = shared() / "models" / name
    if name not in ENCODER_DECODER:
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **_SPECIAL[name])
    sides = [
        PreTrainedTokenizerFast(tokenizer_file=str(folder / f"tokenizer-{side}" / "tokenizer.json"))._tokenizer
        for side in ("src", "tgt")
    ]
    made = PairedTokenizer(tokenizer_object=sides[0], **_SPECIAL[name])
    made.sides, made.is_target_last = (made._tokenizer, sides[1]), False
    return made
