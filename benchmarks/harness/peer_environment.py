"""An environment with Inseq, which needs other versions than ours: made once, with pip, beside everything else."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

VARIABLE = "INTERPD_BENCHMARKS_INSEQ"
"""The Python of an environment that is there already."""

FIRST = ("torch==2.13.0",)
THEN = ("inseq==0.7.1", "captum==0.9.0", "transformers==5.23.0", "scikit-learn==1.9.1")


def inseq_python(tell: Callable[[str], None]) -> str:
    """The Python of an environment with Inseq 0.7.1, made if there is none."""
    if python := os.environ.get(VARIABLE):
        return python
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "interpd" / "benchmarks" / "inseq-0.7.1"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        tell(f"installing Inseq into {folder}, some minutes, once")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in (FIRST, THEN):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        finished.touch()
    return str(python)
