"""The tokenizers of the tiny models, trained on a few sentences. ``python -m making.spelling`` wrote ``tokenizers/``.

What is committed are the files: a trainer of another version may merge in another order.
"""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ("<unk>", "<pad>", "<s>", "</s>")
BOS_ID, EOS_ID = 2, 3

SENTENCES = (
    "The nurse said that she was tired. The doctor said that he was tired.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "The teacher loses her job and the engineer loses his job.",
    "The keys to the cabinet are on the table. The key to the cabinets is on the table.",
    "Paris is the capital of France. Rome is the capital of Italy. Berlin is the capital of Germany.",
    "The cat sat on the mat while the dogs were sleeping in the garden.",
    "Once upon a time, there was a little girl named Lily who loved to play outside.",
    "He is a technician. She is a technician. They are nurses. We were tired and the store was closed.",
)
N_TOKENS = 160


def trained(pieces: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder) -> Tokenizer:
    """A BPE vocabulary over the characters of the sentences."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pieces
    made.decoder = decoder
    made.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=N_TOKENS, special_tokens=list(SPECIAL), show_progress=False)
    )
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return made


def all_of_them() -> dict[str, Tokenizer]:
    """Per model: what marks the beginning of words, and what is added around a text."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = {"tiny-gpt2": trained(byte_level, decoders.ByteLevel())}
    added = {"tiny-llama": ("<s> $A", ("<s>", BOS_ID)), "tiny-t5": ("$A </s>", ("</s>", EOS_ID))}
    for name, (template, special) in added.items():
        made[name] = trained(pre_tokenizers.Metaspace(), decoders.Metaspace())
        made[name].post_processor = processors.TemplateProcessing(single=template, special_tokens=[special])
    return made


if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "tokenizers"
    for name, tokenizer in all_of_them().items():
        (folder / f"{name}.json").write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
