"""The third party's example, against the kit: it must be what its readers copy."""

import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "interpd-tuned-lens"
sys.path.append(str(EXAMPLE))

from interpd_tuned_lens import worker  # noqa: E402, found through the path above

from interpd.testing import conformance  # noqa: E402

test_the_tuned_lens_conforms = pytest.mark.slow(
    conformance(
        worker,
        examples={"tuned_lens.apply": {"at_layer": 1}, "tuned_lens.fit": {"name": "lens", "n_steps": 3}},
        refuses={"tuned_lens.apply": [{"at_layer": -1}, {"at_layer": 99}]},
    )
)


def test_it_is_short_enough_to_be_read():
    lines = [line for path in EXAMPLE.glob("interpd_tuned_lens/*.py") for line in path.read_text().splitlines()]
    assert len(lines) < 250
