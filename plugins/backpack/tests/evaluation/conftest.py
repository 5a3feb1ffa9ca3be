"""A tiny Backpack in this process, and the same weights by hand."""

from types import SimpleNamespace

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client


@pytest.fixture(scope="package")
def here():
    """``model`` of a client, and ``torch`` and ``tokenizer`` of the same weights, which nobody else uses."""
    with interpd_client.local(
        tiny_backpack(torch.float64), plugins={"backpack": interpd_backpack.worker}, progress=False
    ) as client:
        name = client.models()[0].name
        weights, tokenizer = tiny_backpack(torch.float64)
        yield SimpleNamespace(client=client, model=client.model(name), torch=weights, tokenizer=tokenizer)


SHARE = 0.25
"""What the edit by hand leaves of senses 1 and 2."""


@pytest.fixture
def logits(here):
    """Logits of token ids by the weights themselves; ``share`` is left of senses 1 and 2 of all tokens."""

    def scaled(share):
        def hook(module, args, out):
            return torch.cat([out[:, :1], out[:, 1:3] * share, out[:, 3:]], 1)

        return hook

    @torch.no_grad()
    def computed(ids, share=1.0):
        hook = here.torch.backpack.sense_network.register_forward_hook(scaled(share))
        try:
            return here.torch(torch.tensor([list(ids)])).logits[0]
        finally:
            hook.remove()

    return computed


@pytest.fixture(scope="package")
def put():
    """Puts an edit by hand in force: a quarter of senses 1 and 2 of all tokens."""

    def put_in_force(t):
        t.senses[:, 1:3] = t.senses[:, 1:3] * SHARE

    return put_in_force
