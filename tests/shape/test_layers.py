"""The layers, as import-linter checks them: ``pyproject.toml`` holds the contracts."""

import subprocess
import sys
from pathlib import Path

from shape_source import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(cwd):
    return subprocess.run([LINT, "--no-cache"], cwd=cwd, capture_output=True, text=True, check=False)


def test_imports_keep_to_the_layers():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_the_contracts_can_be_broken(tmp_path):
    """A linter that looked at nothing would be content with anything."""
    package = tmp_path / "interpd"
    for name in ("graph", "engine", "surprise"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "graph" / "__init__.py").write_text("import torch\nimport interpd.engine\n")
    (tmp_path / "pyproject.toml").write_text(
        """[tool.importlinter]
root_package = "interpd"
include_external_packages = true
[[tool.importlinter.contracts]]
name = "layers"
type = "layers"
containers = ["interpd"]
exhaustive = true
layers = ["engine", "graph"]
[[tool.importlinter.contracts]]
name = "torch"
type = "forbidden"
source_modules = ["interpd.graph"]
forbidden_modules = ["torch"]
"""
    )
    said = lint(tmp_path).stdout
    assert "interpd.graph is not allowed to import interpd.engine" in said
    assert "interpd.surprise" in said
    assert "interpd.graph is not allowed to import torch" in said
