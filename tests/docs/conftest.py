"""Where the pages are, and the generator of the reference page."""

import importlib.util
import sys
from pathlib import Path


def _load(name):
    # import mode importlib gives test modules no package to import from
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"docs_{name}"] = module
    spec.loader.exec_module(module)


_load("pages")
_load("reference")
