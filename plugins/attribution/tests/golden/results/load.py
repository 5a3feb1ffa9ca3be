"""Whether Inseq 0.7.1 loads what this package writes for it.

    python load.py FOLDER       in an environment with inseq==0.7.1

``FOLDER`` holds files of ``Attributions.save_inseq``, one for each kind in ``kinds.json`` and each precision:
``granular_decoder_only.float16.json``; with compression they end in ``.json.gz``. ``test_files.py`` writes them
(``INTERPD_ATTRIBUTION_EXPORTED=FOLDER``).
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from inseq.data import FeatureAttributionOutput

KINDS = json.loads((Path(__file__).parent / "kinds.json").read_text())
TOLERANCES = {"float32": (0, 0), "float16": (1e-3, 1e-6), "float8": (0.07, 1e-2)}


def original(name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.json"
        path.write_text(json.dumps(KINDS[name]))
        return FeatureAttributionOutput.load(path)


def check(path):
    name, precision = path.name.split(".")[:2]
    found, wanted = FeatureAttributionOutput.load(path, decompress=path.suffix == ".gz"), original(name)
    rtol, atol = TOLERANCES[precision]
    assert found.info == wanted.info
    one, other = found[0], wanted[0]
    assert type(one) is type(other)
    assert (one.source, one.target) == (other.source, other.target)
    assert (one.attr_pos_start, one.attr_pos_end) == (other.attr_pos_start, other.attr_pos_end)
    for kind in ("step_scores", "sequence_scores"):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
    pairs = [(one.source_attributions, other.source_attributions), (one.target_attributions, other.target_attributions)]
    for kind in ("step_scores", "sequence_scores"):
        pairs += [(getattr(one, kind)[key], value) for key, value in getattr(other, kind).items()]
    for got, expected in pairs:
        assert (got is None) == (expected is None)
        if got is not None:
            torch.testing.assert_close(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    flat = "mean" if one.aggregate.__self__._aggregator == [] and pairs[1][0].ndim > 2 else None
    assert torch.isfinite(
        torch.nan_to_num(
            one.aggregate(flat, do_post_aggregation_checks=False).target_attributions
            if one.target_attributions is not None
            else one.source_attributions
        )
    ).all()
    one.aggregate("subwords", do_post_aggregation_checks=False)
    one.get_scores_dicts("mean") if pairs[1][0] is not None and pairs[1][0].ndim == 3 else None


def main():
    paths = sorted(Path(sys.argv[1]).glob("*.json*"))
    assert len(paths) >= len(KINDS)
    for path in paths:
        check(path)
    print(f"Inseq loaded {len(paths)} files")


main()
