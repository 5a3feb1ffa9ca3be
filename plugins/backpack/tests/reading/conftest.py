"""A tiny Backpack in float64: served, bare, and its senses as a table."""

import pytest
import torch
from backpack_tests.tiny import N_PADDING, tiny_backpack

import interpd_client
from interpd_backpack import worker


@pytest.fixture(scope="session")
def bare():
    """(model, tokenizer)"""
    return tiny_backpack(torch.float64)


@pytest.fixture(scope="session")
def backpack(bare):
    """``model.backpack`` of the served one."""
    with interpd_client.local(bare, name="tiny", plugins={"backpack": worker}) as client:
        yield client.model("tiny").backpack


@pytest.fixture(scope="session")
def senses(bare):
    """C of every token, ``[token sense d_model]``."""
    model, tokenizer = bare
    with torch.no_grad():
        return model.backpack.sense_table(torch.arange(len(tokenizer))).clone()


@pytest.fixture(scope="session")
def directions(bare):
    """E without its padding, ``[token d_model]``."""
    return bare[0].lm_head.weight[:-N_PADDING]


@pytest.fixture(scope="session")
def ids(bare):
    """The id of a word in the middle of a sentence."""
    return lambda word: bare[1].convert_tokens_to_ids(f"\u0120{word}")
