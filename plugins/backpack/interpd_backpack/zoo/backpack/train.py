"""Trains the bundled Backpack: ``python -m interpd_backpack.zoo.backpack.train [--out DIR] [--seed 0]``.

Writes the model, its tokenizer, the world, its files, the metrics and the card to ``--out``, the folder of this file by
default. The cards compare it with its twin: run ``python -m interpd_backpack.zoo.backpack_twin.train`` before.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from interpd.zoo.training import Recipe, arguments_of, begin, described, save, train
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM
from interpd_backpack.training.loss import next_token_loss
from interpd_backpack.zoo.backpack.card import write_cards
from interpd_backpack.zoo.backpack.corpus import Corpus
from interpd_backpack.zoo.backpack.evaluate import measured, similarity
from interpd_backpack.zoo.backpack.files import write_files
from interpd_backpack.zoo.backpack.senses import described_senses
from interpd_backpack.zoo.backpack.tokenizer import make_tokenizer
from interpd_backpack.zoo.backpack.world import World, make_world, save_world

HERE = Path(__file__).parent
RECIPE = Recipe(
    steps=2500,
    rows=80,
    threads=1,
    learning_rate=3e-3,
    weight_decay=0.01,
    warm_up=100,
    constant_share=0.5,
    least_share=0.02,
    told_every=20,
)
SHAPE = {
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 128,
    # gelu_new as one operation
    "activation_function": "gelu_pytorch_tanh",
    "scale_attn_by_inverse_layer_idx": True,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
"""Of the transformer; that of the twin, too."""
SENSES = 16
EXAMPLE = "The Macra is made by"
WEIGHT_STD = 0.2
"""Of the sense weights' first matrix: from the usual 0.02 all senses begin alike, and stay so in a short training."""


def make_model(tokenizer: PreTrainedTokenizerFast) -> BackpackForCausalLM:
    """The untrained model."""
    model = BackpackForCausalLM(BackpackConfig(**SHAPE, **special(tokenizer), num_senses=SENSES))
    nn.init.normal_(model.backpack.sense_weight_net.c_attn.weight, std=WEIGHT_STD)
    return model


def special(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Fields of a configuration that the tokenizer decides."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def run(doc: str | None, folder: Path, make: Callable[[PreTrainedTokenizerFast], PreTrainedModel]) -> Path:
    """The folder written to: makes the world, trains, saves, reloads, measures, and writes the metrics.

    Args:
        doc: What the script says of itself.
        folder: To write to, if the command line names none.
        make: Gives the untrained model.
    """
    arguments = arguments_of(doc, RECIPE, folder).parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin(RECIPE, arguments.seed)
    world = make_world()
    tokenizer = make_tokenizer(world)
    model = make(tokenizer)
    corpus = Corpus(world, tokenizer, arguments.seed)

    def loss_at(_step: int) -> Tensor:
        batch = corpus.batch()
        return next_token_loss(model, batch.input_ids, batch.labels)

    training = train(model, RECIPE, loss_at, seed=arguments.seed, steps=arguments.steps)
    # another one: what cuts and pads batches stays set, and would be saved
    save(model, make_tokenizer(world), arguments.out, bos_token_id=tokenizer.bos_token_id)
    write_metrics(arguments.out, type(model), world, training)
    return arguments.out


def write_metrics(folder: Path, kind: type[PreTrainedModel], world: World, training: dict[str, Any]) -> None:
    """Measures a saved model, and writes ``metrics.json`` beside it.

    Args:
        folder: Of the model.
        kind: Its class.
        world: That it knows.
        training: What is to be said of that.
    """
    text = json.dumps({"training": training, **measure(folder, kind, world)}, indent=1, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(folder: Path, kind: type[PreTrainedModel], world: World) -> dict[str, Any]:
    """Metrics of a saved model, computed in float32 from its half-precision weights."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    shape = [name for name in SHAPE if not name.endswith("pdrop")]
    if isinstance(model, BackpackForCausalLM):
        told = described(model, folder, *shape, "num_senses")
        known = measured(model, tokenizer, world)
        return {"model": told, **known, "senses": described_senses(model, tokenizer, world)}
    embeddings = similarity(world, tokenizer, lambda ids: model.get_input_embeddings().weight.detach()[ids])
    return {
        "model": described(model, folder, *shape),
        **measured(model, tokenizer, world),
        "similarity_of_embeddings": embeddings,
        "examples": {EXAMPLE: _continuation(model, tokenizer, EXAMPLE)},
    }


def _continuation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """The prompt and what the model adds to it."""
    return tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0], skip_special_tokens=True)


def main() -> None:
    """Train it, and write what the world says of itself and the cards of both."""
    folder = run(__doc__, HERE, make_model)
    world = make_world()
    save_world(world, folder / "world.json")
    write_files(world, folder)
    if folder == HERE:
        write_cards(HERE, HERE.with_name("backpack_twin"), world)


if __name__ == "__main__":
    main()
