"""Environments with what interpd is compared to, which needs other versions than ours.

Each is made once, with pip, beside everything else.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PeerEnvironment:
    """A peer's environment."""

    name: str
    """Of its folder."""
    variable: str
    """Of the environment: the Python of one that is there already."""
    steps: tuple[tuple[str, ...], ...]
    """What pip is told to install, one call after the other."""

    def python(self, tell: Callable[[str], None]) -> str:
        """Its Python; it is made if there is none."""
        if python := os.environ.get(self.variable):
            return python
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        folder = cache / "interpd" / "benchmarks" / self.name
        python, finished = folder / "bin" / "python", folder / "finished"
        if not finished.exists():
            tell(f"installing {self.name} into {folder}, some minutes, once")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            for packages in self.steps:
                subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
            finished.touch()
        return str(python)


_TORCH = ("torch==2.13.0",)

INSEQ = PeerEnvironment(
    "inseq-0.7.1",
    "INTERPD_BENCHMARKS_INSEQ",
    (_TORCH, ("inseq==0.7.1", "captum==0.9.0", "transformers==5.23.0", "scikit-learn==1.9.1")),
)

BACKPACK = PeerEnvironment(
    "backpack-published",
    "INTERPD_BENCHMARKS_BACKPACK",
    # the published modeling file, unchanged, comes with pyvene, whose other parts are not needed
    (_TORCH, ("transformers==4.57.6", "numpy", "safetensors"), ("--no-deps", "pyvene==0.1.8")),
)
"""The published code of Backpacks on the last transformers that loads it; right with eager attention only."""
