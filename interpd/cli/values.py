"""Values on the command line, for ``type=`` of argparse."""

import argparse
from collections.abc import Callable


def at_least(smallest: int) -> Callable[[str], int]:
    """A type of numbers: whole ones, none below ``smallest``."""

    def count(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = smallest - 1
        if found < smallest:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, {smallest} or more")
        return found

    return count
