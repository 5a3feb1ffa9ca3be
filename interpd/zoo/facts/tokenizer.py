"""The word-level tokenizer of the world; as in byte-level vocabularies, a word's token holds the space before it."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from interpd.zoo.facts.world import World

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPACE = "Ġ"
PERIOD = "."


def world_words(world: World) -> list[str]:
    """Every word of the world's texts, sorted, without the period."""
    texts = [name for names in world.entities.values() for name in names]
    texts += [template for relation in world.relations.values() for template in relation.templates]
    words = {word for text in texts for word in text.split()} | set(world.pronouns.values())
    return sorted(words - {"{}"})


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """A fast tokenizer that puts BOS first, gives one token to each word and to the period, and decodes exactly."""
    return word_tokenizer(world_words(world))


def word_tokenizer(words: Sequence[str], marks: Sequence[str] = (PERIOD,)) -> PreTrainedTokenizerFast:
    """A tokenizer of one token for each of ``words``, the space before it included, and for each of the ``marks``."""
    tokens = [PAD, BOS, EOS, UNKNOWN, *marks, *(SPACE + word for word in words)]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    # ByteLevel gives every first word its space; taking it off again keeps decode(encode(text)) == text.
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokens.index(BOS))]
        ),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
