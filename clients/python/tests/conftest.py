import pytest

from interpd_client import Client
from interpd_client.testing import FakeTransport, fake_manifest


@pytest.fixture
def transport():
    """A service that remembers what it was asked."""
    return FakeTransport(fake_manifest(n_layers=3))


@pytest.fixture
def client(transport):
    with Client(transport, progress=False) as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("fake")


@pytest.fixture
def sent(transport):
    """Builds the nodes that the only request of a test carried."""

    def nodes():
        (request,) = transport.requests
        return list(request.graph.nodes)

    return nodes
