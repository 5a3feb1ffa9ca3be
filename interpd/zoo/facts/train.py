"""Trains the bundled model: ``python -m interpd.zoo.facts.train [--out DIR] [--seed 0]``.

Writes the model, its tokenizer, the world, the metrics and the card to ``--out``, the folder of this file by default.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from interpd.zoo.facts.card import write_card
from interpd.zoo.facts.corpus import Batch, Corpus
from interpd.zoo.facts.evaluate import Patching, accuracy, final_logits, make_prompts, make_swaps
from interpd.zoo.facts.tokenizer import make_tokenizer
from interpd.zoo.facts.world import World, load_world, make_world, save_world
from interpd.zoo.training import Recipe, arguments_of, begin, described, save, train

HERE = Path(__file__).parent
RECIPE = Recipe(
    steps=1400,
    rows=256,
    threads=2,
    learning_rate=2e-3,
    weight_decay=0.05,
    warm_up=100,
    constant_share=0.3,
    least_share=0.02,
    told_every=50,
)
PARAGRAPHS_EVERY = 6
INTERCHANGE_LAYERS = (0, 1, 2)
EXAMPLE = "Elena Marsh was born in"


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: six blocks of width 128 with full causal attention."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
            attn_implementation="eager",
        )
    )


class Losses:
    """The losses of the steps of training; ``plain`` leaves the interchanged rows out."""

    def __init__(self, model: PreTrainedModel, corpus: Corpus, *, seed: int, plain: bool = False) -> None:
        self._model, self._corpus, self._plain = model, corpus, plain
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, step: int) -> Tensor:
        """Weighted cross-entropy of a new batch, a sum over positions and a mean over rows."""
        is_paragraph = step % PARAGRAPHS_EVERY == PARAGRAPHS_EVERY - 1
        batch = self._corpus.paragraphs(RECIPE.rows // 2) if is_paragraph else self._corpus.sentences(RECIPE.rows)
        return _loss(self._model, batch.clean() if self._plain else batch, self._generator)


def measure(folder: Path, world: World) -> dict[str, object]:
    """Metrics of a saved model, computed in float32 from its half-precision weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    eager, sdpa = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=kind).eval()
        for kind in ("eager", "sdpa")
    )
    trained, unseen = world.prompts(held_out=False), world.prompts(held_out=True)
    patching = Patching(eager, tokenizer, world, make_swaps(world))
    prompts = make_prompts(tokenizer, world, unseen)
    difference = (final_logits(eager, prompts) - final_logits(sdpa, prompts)).abs().max()
    return {
        "model": described(
            eager, folder, "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"
        ),
        "world": {"facts": len(world.facts), "trained_prompts": len(trained), "unseen_prompts": len(unseen)},
        "accuracy": {
            "trained": accuracy(eager, tokenizer, world, trained),
            "unseen": accuracy(eager, tokenizer, world, unseen),
        },
        "flips": {"pairs": patching.known, "curves": patching.curves()},
        "eager_minus_sdpa": float(difference),
    }


def main() -> None:
    """Make the world, train, save, reload, measure and write the card."""
    parser = arguments_of(__doc__, RECIPE, HERE)
    parser.add_argument("--plain", action="store_true", help="without interchanged rows, to compare; needs --out")
    arguments = parser.parse_args()
    if arguments.plain and arguments.out == HERE:
        parser.error("--plain is for comparison and would overwrite the bundled model: name a folder with --out")
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin(RECIPE, arguments.seed)
    save_world(make_world(), arguments.out / "world.json")
    world = load_world(arguments.out / "world.json")
    tokenizer = make_tokenizer(world)
    model = make_model(tokenizer)
    losses = Losses(model, Corpus(world, tokenizer, arguments.seed), seed=arguments.seed, plain=arguments.plain)
    training = train(model, RECIPE, losses, seed=arguments.seed, steps=arguments.steps)
    save(model, tokenizer, arguments.out, bos_token_id=tokenizer.bos_token_id)
    metrics = {"training": training, **measure(arguments.out, world)}
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    if not arguments.plain:
        write_card(arguments.out, metrics, _continuation(arguments.out, EXAMPLE))
    print(f"unseen paraphrases {metrics['accuracy']['unseen']['all']:.4f}; flips {metrics['flips']}")


def _continuation(folder: Path, text: str) -> str:
    """The prompt and what the saved model adds to it, as a reader would get it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0], skip_special_tokens=True)


def _loss(model: PreTrainedModel, batch: Batch, generator: torch.Generator) -> Tensor:
    """Weighted cross-entropy, a sum over positions and a mean over rows."""
    choice = torch.randint(len(INTERCHANGE_LAYERS), batch.source.shape, generator=generator)
    with _interchanging(model, batch, torch.tensor(INTERCHANGE_LAYERS)[choice]):
        logits = model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.transpose(1, 2), batch.input_ids[:, 1:], reduction="none")
    return (losses * batch.weights[:, 1:]).sum() / len(losses)


@contextmanager
def _interchanging(model: PreTrainedModel, batch: Batch, layers: Tensor) -> Iterator[None]:
    """Each interchanged row takes, after block ``layers[row]``, its source's residual at the name's last token."""
    interchanged = batch.source != torch.arange(len(batch.source))

    def patch(layer: int, output: Tensor) -> Tensor:
        rows = (interchanged & (layers == layer)).nonzero()[:, 0]
        sources = batch.source[rows]
        return output.index_put((rows, batch.name_end[rows]), output[sources, batch.name_end[sources]])

    handles = [
        model.model.layers[layer].register_forward_hook(lambda _m, _i, output, layer=layer: patch(layer, output))
        for layer in INTERCHANGE_LAYERS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
