"""Small models that this project trains itself; each is a folder that ``from_pretrained`` loads without a network."""

from pathlib import Path

_HERE = Path(__file__).parent


def path(name: str) -> Path:
    """The folder of a bundled model, for instance ``path("facts")``."""
    known = sorted(config.parent.name for config in _HERE.glob("*/config.json"))
    if name not in known:
        raise ValueError(f"no bundled model is called {name!r}; bundled models: {', '.join(known) or 'none'}")
    return _HERE / name
