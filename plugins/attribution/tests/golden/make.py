"""Makes the golden numbers again: ``python make.py {inseq,value-zeroing,captum}``; ``--check`` compares instead.

Runs in the environments of the oracles (README.md says how to build them), one thread, no network. ``value-zeroing``
needs the older transformers of recipe A; everything else is recipe B's.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator

# read when torch is first imported
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def _inseq() -> Iterator[object]:
    from making import aggregation, context, inputs, matrix, scores, stored

    for name in inputs.MODELS:
        yield matrix.make(name)
    yield from aggregation.make()
    yield from scores.make()
    yield from stored.make()
    yield from context.make()


def _value_zeroing() -> Iterator[object]:
    from making import value_zeroing

    yield from value_zeroing.make()


def _captum() -> Iterator[object]:
    from making import captum_cases

    yield from captum_cases.make()


PARTS: dict[str, Callable[[], Iterator[object]]] = {
    "inseq": _inseq,
    "value-zeroing": _value_zeroing,
    "captum": _captum,
}


def main() -> int:
    """The exit status: 0, or 1 when ``--check`` found differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--check", action="store_true", help="compare with what is committed instead of writing")
    asked = parser.parse_args()
    differences: list[str] = []
    for made in PARTS[asked.part]():
        if asked.check:
            differences += made.differences()
        else:
            made.write()
            print(f"{made.name}: written")
    print("\n".join(differences))
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
