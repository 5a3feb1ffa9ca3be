"""What is offered to others is documented, and the tree is the one that was agreed."""

import importlib
import inspect
import subprocess

import pytest
from shape_source import ROOT

AGREED = {"interpd", "plugins", "protos", "clients", "tests", "pyproject.toml", "README.md"}
BESIDE = {"Makefile", "LICENSE", "CHANGELOG.md", "benchmarks", "examples", ".ci", ".gitignore", "constraints.txt"}


def undocumented(name, value):
    if inspect.isclass(value):
        methods = {key: item for key, item in vars(value).items() if inspect.isfunction(item) and key[0] != "_"}
        bare = [f"{name}.{key}" for key, method in methods.items() if not method.__doc__]
        return bare if value.__doc__ else [name, *bare]
    return [name] if inspect.isroutine(value) and not inspect.getdoc(value) else []


@pytest.mark.parametrize("module", ["interpd.sdk", "interpd.testing", "interpd.cli", "interpd_client"])
def test_what_is_offered_to_others_has_a_docstring(module):
    offered = importlib.import_module(module)
    assert offered.__doc__
    assert not [bare for name in offered.__all__ for bare in undocumented(name, getattr(offered, name))]
    assert list(offered.__all__) == sorted(offered.__all__)


def test_the_tree_is_the_one_that_was_agreed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert top >= AGREED
    assert top <= AGREED | BESIDE
