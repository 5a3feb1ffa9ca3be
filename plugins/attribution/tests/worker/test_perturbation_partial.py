"""What methods that fit something to random rows tell on the way: the same fit to the rows so far."""

import numpy as np
import pytest

from interpd.graph.ir import Graph, Node, Ref
from interpd.testing.in_process import InProcessModel
from interpd_attribution import worker

DRAWN = {
    "kernel_shap": {"n_samples": 64},
    "lime": {"n_samples": 64},
    "context_cite": {"n_ablations": 48, "n_held_out": 8},
}


@pytest.fixture(scope="module")
def model():
    with InProcessModel({"attribution": worker}) as served:
        yield served


def parts_of(model, method, **constants):
    asked = {"baseline": "zeros", "include_eos_baseline": True, **constants}
    graph = Graph((Node(f"attribution.{method}", params=asked),), {"scores": Ref(0)})
    events = model.run(graph).events
    return [event.tensor.to_numpy() for event in events if getattr(event, "tensor", None) is not None]


@pytest.mark.parametrize(
    "method", ["lime", *(pytest.param(one, marks=pytest.mark.slow) for one in ("kernel_shap", "context_cite"))]
)
def test_surrogates_tell_what_is_known_so_far(model, method):
    *parts, whole = parts_of(model, method, **DRAWN[method], rows_per_pass=16)
    assert parts
    off = [np.nanmax(np.abs(part - whole)) for part in parts]
    assert all(np.isnan(part).tolist() == np.isnan(whole).tolist() for part in parts)
    assert off[-1] > 0
    # the fit to all rows is the one without any part
    (alone,) = parts_of(model, method, **DRAWN[method], rows_per_pass=512)
    np.testing.assert_allclose(whole, alone, rtol=1e-4, atol=1e-6)
