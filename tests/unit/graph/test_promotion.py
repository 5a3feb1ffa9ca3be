import pytest

from interpd.graph.promotion import promote, result_dtype
from interpd.graph.types import Dim, TensorType


def _vector(dtype):
    return TensorType(dtype, (Dim("", 2),))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((_vector("float16"), 2.5), "float16"),
        ((_vector("int64"), 2.5), "float32"),
        ((_vector("float16"), TensorType("float32")), "float16"),
        ((_vector("int64"), TensorType("float64")), "float64"),
        ((_vector("bool"), 1), "int64"),
        ((_vector("float16"), _vector("bfloat16")), "float32"),
        ((_vector("uint8"), _vector("int8")), "int16"),
        ((_vector("bool"), True), "bool"),
        ((1, 2.0), "float32"),
    ],
)
def test_promotion_is_torchs(values, dtype):
    assert result_dtype(values) == dtype


def test_families_stay_families():
    assert promote("float", "float32") == "float"
    assert promote("int", "float32") == "float32"
    assert promote("any", "int64") == "any"
