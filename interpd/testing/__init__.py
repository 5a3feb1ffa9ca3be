"""Public test kit: conformance of plugins, fakes, tiny models, a pytest plugin."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpd.testing.kit import conformance

__all__ = ["conformance"]


def __getattr__(name: str) -> Any:
    # pytest imports this package at every start, for the fixtures: the kit waits until it is asked for
    if name == "conformance":
        from interpd.testing.kit import conformance

        return conformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
