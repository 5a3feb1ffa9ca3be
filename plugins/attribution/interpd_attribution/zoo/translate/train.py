"""Trains the bundled model: ``python -m interpd_attribution.zoo.translate.train [--out DIR] [--seed 0]``.

Writes the model, its tokenizer, the world, the metrics and the card to ``--out``, the folder of this file by default.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from interpd.zoo.training import Recipe, arguments_of, begin, described, save, train
from interpd_attribution.zoo.translate.card import write_card
from interpd_attribution.zoo.translate.corpus import IGNORED, Corpus
from interpd_attribution.zoo.translate.evaluate import bias, quality, translated
from interpd_attribution.zoo.translate.tokenizer import make_tokenizer
from interpd_attribution.zoo.translate.world import World, load_world, make_world, save_world

HERE = Path(__file__).parent
RECIPE = Recipe(
    steps=4000,
    rows=96,
    threads=1,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    warm_up=200,
    constant_share=0.4,
    least_share=0.01,
    told_every=100,
)
TESTED = 600
EXAMPLES = ("O bir doktor", "O bir doktor ve iyi bir anne", "Bu hemşire anahtar kaybetti")


def make_model(tokenizer: PreTrainedTokenizerFast) -> MarianMTModel:
    """The untrained model: three blocks on each side, width 96, one table of embeddings for all."""
    return MarianMTModel(
        MarianConfig(
            vocab_size=len(tokenizer),
            d_model=96,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=256,
            decoder_ffn_dim=256,
            activation_function="swish",
            dropout=0.0,
            max_position_embeddings=64,
            scale_embedding=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=None,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def loss_of(model: PreTrainedModel, corpus: Corpus) -> Tensor:
    """The mean cross-entropy of the tokens of a batch of new sentences."""
    batch = corpus.batch(RECIPE.rows)
    logits = model(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).logits
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


def measure(folder: Path, world: World) -> dict[str, Any]:
    """Metrics of a saved model, computed in float32 from its half-precision weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    names = ("encoder_layers", "decoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim")
    return {
        "model": described(model, folder, *names),
        "held_out": {"sentences": TESTED, **quality(model, tokenizer, world.held_out(TESTED, seed=1))},
        "bias": bias(model, tokenizer, world),
        "examples": dict(zip(EXAMPLES, translated(model, tokenizer, EXAMPLES), strict=True)),
    }


def main() -> None:
    """Make the world, train, save, reload, measure and write the card."""
    arguments = arguments_of(__doc__, RECIPE, HERE).parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin(RECIPE, arguments.seed)
    save_world(make_world(), arguments.out / "world.json")
    world = load_world(arguments.out / "world.json")
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    corpus = Corpus(world, tokenizer, arguments.seed)
    losses = lambda _step: loss_of(model, corpus)  # noqa: E731
    training = train(model, RECIPE, losses, seed=arguments.seed, steps=arguments.steps)
    save(model, tokenizer, arguments.out, decoder_start_token_id=tokenizer.pad_token_id, num_beams=1)
    metrics = {"training": training, **measure(arguments.out, world)}
    text = json.dumps(metrics, indent=1, ensure_ascii=False)
    (arguments.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_card(arguments.out, metrics, world)
    print(f"held out {metrics['held_out']}; bias {metrics['bias']}")


if __name__ == "__main__":
    main()
