"""Makes the interpreter by hooks and the random requests importable."""

import importlib.util
import sys
from pathlib import Path


def _load(name):
    # import mode importlib gives test modules no package to import from
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_load("hooked_model")
_load("random_requests")
_load("mutants")
_load("company")
