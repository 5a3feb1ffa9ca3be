"""Trains the bundled model: ``python -m interpd_attribution.zoo.translate.train [--out DIR] [--seed 0]``.

Writes the model, its tokenizer, the world, the metrics and the card to ``--out``, the folder of this file by default.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from interpd_attribution.zoo.translate.card import write_card
from interpd_attribution.zoo.translate.corpus import IGNORED, Corpus, held_out
from interpd_attribution.zoo.translate.evaluate import bias, quality, translated
from interpd_attribution.zoo.translate.tokenizer import make_tokenizer
from interpd_attribution.zoo.translate.world import World, load_world, make_world, save_world

HERE = Path(__file__).parent
STEPS, ROWS = 4000, 96
LEARNING_RATE, WARM_UP, CONSTANT_SHARE = 1.5e-3, 200, 0.4
# The number of threads decides the order of sums, so it is part of the recipe.
THREADS = 1
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


def train(model: PreTrainedModel, corpus: Corpus, *, steps: int) -> None:
    """Train in place, with a progress line every hundredth step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step, steps)
        batch = corpus.batch(ROWS)
        optimizer.zero_grad()
        logits = model(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:5.0f} s", flush=True)
    model.eval()


def measure(folder: Path, world: World) -> dict[str, Any]:
    """Metrics of a saved model, computed in float32 from its half-precision weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    names = ("model_type", "encoder_layers", "decoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim")
    shape = {name: getattr(model.config, name) for name in (*names, "vocab_size")}
    weight_bytes = (folder / "model.safetensors").stat().st_size
    return {
        "model": {**shape, "parameters": model.num_parameters(), "weight_bytes": weight_bytes},
        "held_out": {"sentences": TESTED, **quality(model, tokenizer, held_out(world, TESTED))},
        "bias": bias(model, tokenizer, world),
        "examples": dict(zip(EXAMPLES, translated(model, tokenizer, EXAMPLES), strict=True)),
    }


def main() -> None:
    """Make the world, train, save, reload, measure and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the sentences")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer for a quick trial")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    save_world(make_world(), arguments.out / "world.json")
    world = load_world(arguments.out / "world.json")
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    started = time.monotonic()
    train(model, Corpus(world, tokenizer, arguments.seed), steps=arguments.steps)
    training = {"seed": arguments.seed, "steps": arguments.steps, "rows": ROWS, "threads": THREADS}
    training["seconds"] = round(time.monotonic() - started)
    _save(model, tokenizer, arguments.out)
    metrics = {"training": training, **measure(arguments.out, world)}
    text = json.dumps(metrics, indent=1, ensure_ascii=False)
    (arguments.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_card(arguments.out, metrics, world)
    print(f"held out {metrics['held_out']}; bias {metrics['bias']}")


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: a linear rise, a constant part, a linear fall."""
    fall = (1 - step / steps) / (1 - CONSTANT_SHARE)
    return min(1.0, (step + 1) / WARM_UP, max(0.01, fall))


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        num_beams=1,
        max_new_tokens=32,
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
