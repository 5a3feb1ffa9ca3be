"""A plugin for an interpd that this one is not."""

from interpd.sdk import hookimpl


@hookimpl
def interpd_register_wishes() -> list[object]:
    """What no hook of this version asks for."""
    return []
