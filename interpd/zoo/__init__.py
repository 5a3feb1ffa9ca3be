"""Small models that this project trains itself; each is a folder that ``from_pretrained`` loads without a network."""

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The bundled models."""
    return sorted(config.parent.name for config in _HERE.glob("*/config.json"))


def path(name: str) -> Path:
    """The folder of a bundled model, for instance ``path("facts")``."""
    if name not in names():
        raise ValueError(f"no bundled model is called {name!r}; bundled models: {', '.join(names()) or 'none'}")
    return _HERE / name
