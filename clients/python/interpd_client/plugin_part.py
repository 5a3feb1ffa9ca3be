"""Client parts of plugins: ``model.tuned_lens`` is what the entry point of that name makes of the model."""

from typing import TYPE_CHECKING, Any

from interpd.plugin import parts
from interpd_client.names import UnknownName, nearest_names

if TYPE_CHECKING:
    from interpd_client.model import Model


def plugin_part(model: "Model", name: str) -> Any:
    """A new client part of the plugin ``name``, for ``model``. Raises ``UnknownName``, ``Broken``."""
    if name not in parts.names(parts.CLIENT):
        raise UnknownName(
            f"model {model.name!r} has no {name!r}{_advice(model, name)}",
            name=name,
            nearest=nearest_names(name, dir(model)),
        )
    one = parts.part(parts.CLIENT, name)
    make = parts.loaded(one)
    return parts.guarded(one, lambda: make(model))


def _advice(model: "Model", name: str) -> str:
    plugin = next((info for info in model.manifest.plugins if info.name == name and info.status == "loaded"), None)
    if plugin is None:
        return ""
    return (
        f": its workers have that plugin (t.ops.{name}), but no client part of it is installed here; "
        f"pip install {plugin.distribution} brings one if there is one"
    )
