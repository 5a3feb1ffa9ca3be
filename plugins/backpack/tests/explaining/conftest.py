"""A tiny Backpack in float64, served and bare."""

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker

SCALE = 0.25
"""Of the sum of senses, as in Levanter's checkpoints."""


@pytest.fixture(scope="session")
def bare():
    """(model, tokenizer)"""
    return tiny_backpack(torch.float64, sense_output_scale=SCALE)


@pytest.fixture(scope="session")
def backpack(bare):
    """``model.backpack`` of the served one."""
    with interpd_client.local(bare, name="tiny", plugins={"backpack": worker}) as client:
        yield client.model("tiny").backpack


@pytest.fixture(scope="session")
def logits(bare):
    """The bare model's logits of a text, ``[pos d_vocab]``, with a sense of a position scaled where that is asked."""
    model, tokenizer = bare

    @torch.no_grad()
    def of(text, position=0, sense=0, factor=1.0):
        def scaled(_, __, output):
            output = output.clone()
            output[:, sense, position] *= factor
            return output

        handle = model.backpack.sense_network.register_forward_hook(scaled)
        try:
            return model(tokenizer(text, return_tensors="pt").input_ids).logits[0]
        finally:
            handle.remove()

    return of


@pytest.fixture(scope="session")
def ids(bare):
    """The id of a word in the middle of a sentence."""
    return lambda word: bare[1].convert_tokens_to_ids(f"\u0120{word}")
