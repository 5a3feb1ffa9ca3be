"""What a terminal shows of a result."""

from io import StringIO

import numpy as np
from rich.console import Console


def shown(result, width=200):
    """Its text."""
    console = Console(file=StringIO(), width=width)
    console.print(result._rendered(width))
    return console.file.getvalue()


def written(value, *shown_with):
    """A number as tables have it: three digits behind the point where all that are shown with it are small."""
    largest = max(np.abs(array).max() for array in shown_with)
    return f"{value:.{3 if largest < 1 else 2}f}".removeprefix("-")
