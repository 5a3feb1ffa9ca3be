"""Small models that come with interpd and its plugins; each is a folder that ``from_pretrained`` loads without a
network. Plugins offer theirs as entry points of the group ``interpd.zoo``, see plugins/README.md.
"""

from pathlib import Path
from types import ModuleType

from interpd.errors import Broken
from interpd.plugin import parts

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The bundled models, plugins' included. Imports no plugin."""
    return sorted({*own(), *parts.names(parts.ZOO)})


def own() -> list[str]:
    """The bundled models of this package; a plugin's of the same name is not taken."""
    return sorted(config.parent.name for config in _HERE.glob("*/config.json"))


def path(name: str) -> Path:
    """The folder of a bundled model, for instance ``path("facts")``.

    Raises ``ValueError`` for a name that no model has, ``Broken`` where a plugin's package holds none.
    """
    if name in own():
        return _HERE / name
    if name not in names():
        raise ValueError(f"no bundled model is called {name!r}; bundled models: {', '.join(names()) or 'none'}")
    one = parts.part(parts.ZOO, name)
    package = parts.guarded(one, one.load)
    file = package.__file__ if isinstance(package, ModuleType) else None
    folder = Path(file).parent if file else Path()
    if not file or not (folder / "config.json").is_file():
        raise Broken(f"{one}: {one.target} is no package with a model: no config.json lies beside its __init__.py")
    return folder
