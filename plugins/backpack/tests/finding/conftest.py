"""A tiny Backpack in float64, served and bare."""

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker


@pytest.fixture(scope="session")
def bare():
    return tiny_backpack(torch.float64)


@pytest.fixture(scope="session")
def client(bare):
    with interpd_client.local(bare, name="tiny", plugins={"backpack": worker}) as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("tiny")
