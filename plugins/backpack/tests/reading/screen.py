"""What a terminal shows of a result."""

from io import StringIO

from rich.console import Console


def shown(result, width=200):
    """Its text."""
    console = Console(file=StringIO(), width=width)
    console.print(result._rendered(width))
    return console.file.getvalue()
