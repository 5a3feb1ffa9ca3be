"""The word-level tokenizer of both languages; as in SentencePiece, a word's token begins with ``▁``."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from interpd_attribution.zoo.translate.world import all_words

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
SPACE = "▁"
PERIOD = "."


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer that gives one token to each word and to the period, puts ``</s>`` last, and decodes exactly."""
    tokens = [PAD, EOS, UNKNOWN, PERIOD, *(SPACE + word for word in all_words())]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first"),
        pre_tokenizers.Split(PERIOD, "isolated"),
    ])  # fmt: skip
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="first")
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, tokens.index(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
