"""The blocking and the asynchronous client offer the same: names, parameters, defaults, options."""

import inspect

import pytest

import interpd_client as interpd
import interpd_client.aio.testing
import interpd_client.testing
from interpd_client import aio
from interpd_client.aio import service_transport as aio_service_transport
from interpd_client.service_transport import ServiceTransport

TWINS = ("Client", "Model", "Trace", "GenerationTrace", "PromptTrace", "RunHandle", "TokenStream", "Transport")

ONLY_ONCE = {
    "Model": {"__dir__"},
    "TokenStream": set(),
}


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def parameters(member):
    return [(one.name, one.kind, one.default) for one in inspect.signature(member).parameters.values()]


@pytest.mark.parametrize("name", TWINS)
def test_both_have_the_same_members_with_the_same_parameters(name):
    blocking, awaited = getattr(interpd, name), getattr(aio, name)
    assert public(blocking) == public(awaited)
    for member in public(blocking):
        ours, theirs = inspect.getattr_static(blocking, member), inspect.getattr_static(awaited, member)
        assert isinstance(ours, property) == isinstance(theirs, property), member
        if callable(ours) and not isinstance(ours, type):
            assert parameters(ours) == parameters(theirs), member


@pytest.mark.parametrize("function", ["connect", "local"])
def test_both_are_made_in_the_same_way(function):
    assert parameters(getattr(interpd, function)) == parameters(getattr(aio, function))
    assert parameters(interpd.Client) == parameters(aio.Client)


def test_both_are_documented():
    classes = [getattr(aio, name) for name in TWINS]
    bare = [
        f"{cls.__name__}.{name}"
        for cls in classes
        for name, member in vars(cls).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property)) and not member.__doc__
    ]
    assert bare == []
    assert sorted(aio.__all__) == list(aio.__all__)


def test_transports_implement_all_of_their_seam():
    for seam, implementation in (
        (interpd.Transport, ServiceTransport),
        (aio.Transport, aio_service_transport.ServiceTransport),
        (interpd.Transport, interpd_client.testing.FakeTransport),
    ):
        for name in public(seam):
            assert parameters(getattr(seam, name)) == parameters(getattr(implementation, name)), name
