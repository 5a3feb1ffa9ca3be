from dataclasses import dataclass
from typing import Literal

import pytest
from jaxtyping import BFloat16, Float, Int, Num
from numpy import ndarray as Tensor

from interpd.graph.schema import ParamSchema, PortSchema
from interpd.graph.types import Dim, TensorType
from interpd.plugin.artifact import artifact
from interpd.plugin.declaration import DeclarationError
from interpd.plugin.method import MethodContext, method
from interpd.plugin.op import op


@artifact("sae")
@dataclass(frozen=True)
class Sae:
    """Weights."""

    w_enc: Float[Tensor, "d_model d_sae"]


@op("sae.encode", version=3, paper="arXiv:1703.01365")
def encode(
    resid: Float[Tensor, "batch pos d_model"],
    bias: Float[Tensor, " d_sae"] | None = None,
    *,
    sae: Sae,
    mode: Literal["relu", "jump"] = "relu",
    at: tuple[int, ...] = (),
    top: int | None = None,
    scale: float = 1,
) -> Float[Tensor, "batch pos d_sae"]:
    """Feature activations.

    Args:
        scale: Multiplies them.
            Always.
    """
    return resid


def floats(*names):
    return TensorType("float", tuple(map(Dim, names)))


def test_the_annotations_are_the_schema():
    schema = encode.schema
    assert (schema.name, schema.version, schema.paper, schema.summary) == (
        "sae.encode",
        3,
        "arXiv:1703.01365",
        "Feature activations.",
    )
    assert schema.inputs == (
        PortSchema("resid", floats("batch", "pos", "d_model")),
        PortSchema("bias", floats("d_sae"), optional=True),
    )
    assert schema.outputs == (PortSchema("out", floats("batch", "pos", "d_sae")),)
    assert schema.params == (
        ParamSchema("sae", "artifact:sae"),
        ParamSchema("mode", "literal", required=False, default="relu", choices=("relu", "jump")),
        ParamSchema("at", "ints", required=False, default=()),
        ParamSchema("top", "int", required=False, default=None),
        ParamSchema("scale", "float", required=False, default=1, doc="Multiplies them. Always."),
    )


def test_an_op_stays_a_plain_function():
    assert encode(5, sae=None) == 5


def test_axes_may_be_open_fixed_or_nameless():
    @op("a.b")
    def fn(x: Int[Tensor, "*batch 3 _ k=2"], y: BFloat16[Tensor, "... d"], z: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Nothing."""

    types = [port.type for port in fn.schema.inputs]
    assert types[0] == TensorType("int", (Dim("*batch"), Dim("", 3), Dim(""), Dim("k", 2)))
    assert types[1] == TensorType("bfloat16", (Dim("..."), Dim("d")))
    assert types[2] == TensorType("float", ())


def test_several_outputs_come_from_a_tuple_or_a_frozen_dataclass():
    @dataclass(frozen=True)
    class Split:
        left: Float[Tensor, " a"]
        right: Int[Tensor, " a"]

    @op("a.tuple")
    def pair(x: Float[Tensor, " a"]) -> tuple[Float[Tensor, " a"], Int[Tensor, " a"]]:
        """A pair."""

    @op("a.fields")
    def split(x: Float[Tensor, " a"]) -> Split:
        """Two parts."""

    assert [port.name for port in pair.schema.outputs] == ["out0", "out1"]
    assert [(port.name, port.type.dtype) for port in split.schema.outputs] == [("left", "float"), ("right", "int")]


def test_ports_may_be_tuples_or_take_numbers():
    @op("a.b")
    def fn(xs: tuple[Float[Tensor, "a"], ...], scale: Float[Tensor, ""] | float) -> Float[Tensor, " a"]:  # noqa: F821
        """Nothing."""

    assert [(port.variadic, port.allows_const) for port in fn.schema.inputs] == [(True, False), (False, True)]


def _bare(x):
    """No annotation."""


def _broadcast(x: Float[Tensor, "#batch a+1"]) -> Float[Tensor, " a"]:
    """Axes that are no names."""


def _constant_first(x: Float[Tensor, " a"], k: int) -> Float[Tensor, " a"]:
    """A constant before the star."""


def _tensor_last(x: Float[Tensor, " a"], *, y: Float[Tensor, " a"]) -> Float[Tensor, " a"]:
    """A tensor behind the star."""


def _wide(x: Num[Tensor, " a"]) -> Float[Tensor, " a"]:
    """A dtype that no graph has."""


def _default(x: Float[Tensor, " a"], *, k: int = 2.5) -> Float[Tensor, " a"]:
    """A default of another kind."""


def _half_optional(x: Float[Tensor, " a"] | None) -> Float[Tensor, " a"]:
    """Half optional."""


def _collects(*x: Float[Tensor, " a"]) -> Float[Tensor, " a"]:
    """Collects."""


def _returns_list(x: Float[Tensor, " a"]) -> list:
    """A list."""


def _no_port(*, k: int) -> Float[Tensor, " a"]:
    """Nothing comes in."""


def _gets_context(ctx: MethodContext, x: Float[Tensor, " a"]) -> Float[Tensor, " a"]:
    """A method in an operation's clothes."""


def _artifact_first(x: Float[Tensor, " a"], sae: Sae) -> Float[Tensor, " a"]:
    """An artifact before the star."""


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (_bare, "parameter 'x' has no annotation; write x: Float[Tensor, \"batch pos d_model\"]"),
        (_bare, "has no return annotation"),
        (_broadcast, "parameter 'x' axis '#batch' of '#batch a+1' is not a name, a number"),
        (_constant_first, "parameter 'k' is a constant before the '*'; constants are keyword-only: move it behind"),
        (_tensor_last, "parameter 'y' is a tensor behind the '*'; tensors are ports: move it before the '*'"),
        (_wide, "dtype 'Num' is not a dtype of graphs; write one of Float, Int, Bool"),
        (_default, "parameter 'k' default 2.5 is not of kind int"),
        (_half_optional, "is optional by half; write both '| None' and '= None', or neither"),
        (_collects, "parameter 'x' collects arguments; name each port"),
        (_returns_list, "returns list; write -> Float[Tensor"),
        (_gets_context, "parameter 'ctx' is a method's context, which an operation does not get; use @method"),
        (_artifact_first, "parameter 'sae' is an artifact before the '*'"),
        (_no_port, "has no port; an operation takes at least one tensor"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_declaration_that_cannot_be_an_op_says_what_to_write(fn, message):
    with pytest.raises(DeclarationError) as caught:
        op("a.b")(fn)
    assert message in str(caught.value)
    assert str(caught.value).startswith("op 'a.b': ")
    assert f"in def {fn.__name__}(" in str(caught.value)
    assert "test_op, line " in str(caught.value)


def test_a_decorator_without_its_name_says_how_to_write_it():
    with pytest.raises(
        DeclarationError, match=r'@op without a name in def _wide.*write @op\("family._wide", version=1\)'
    ):
        op(_wide)
    with pytest.raises(DeclarationError, match="@method without a name"):
        method(_wide)
    with pytest.raises(DeclarationError, match="@artifact without a kind on class Sae"):
        artifact(Sae)


def test_all_problems_come_at_once():
    with pytest.raises(DeclarationError, match="3 problems"):
        op("NoFamily", version=0)(_wide)


def test_annotations_of_postponed_evaluation_are_read_when_they_can_be():
    def fn(x: "Float[Tensor, 'a']") -> "Float[Tensor, 'a']":  # noqa: F821
        """Quoted."""

    assert op("a.b")(fn).schema.inputs == (PortSchema("x", floats("a")),)

    def lost(x: 'Float[Elsewhere, "a"]') -> 'Float[Tensor, "a"]':  # noqa: F821
        """Cannot be evaluated."""

    with pytest.raises(DeclarationError, match=r"annotations cannot be evaluated .*'Elsewhere'.*; drop"):
        op("a.b")(lost)
