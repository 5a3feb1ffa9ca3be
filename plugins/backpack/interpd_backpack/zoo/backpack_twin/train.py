"""Trains the Backpack's twin: ``python -m interpd_backpack.zoo.backpack_twin.train [--out DIR] [--seed 0]``.

A GPT-2 of the shape that is inside the bundled Backpack, trained as that is, on the same texts in the same order.
"""

from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from interpd_backpack.zoo.backpack.train import SHAPE, run, special

HERE = Path(__file__).parent


def make_model(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """The untrained model."""
    return GPT2LMHeadModel(GPT2Config(**SHAPE, **special(tokenizer)))


def main() -> None:
    """Train it, and measure it; the training of the Backpack writes both cards."""
    run(__doc__, HERE, make_model)


if __name__ == "__main__":
    main()
