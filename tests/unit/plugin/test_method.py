import pytest
from jaxtyping import Float
from numpy import ndarray as Tensor

from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import Dim, TensorType
from interpd.plugin.annotations import Recomputed
from interpd.plugin.declaration import DeclarationError
from interpd.plugin.declared import checked
from interpd.plugin.method import MethodContext, method
from interpd.plugin.op import RegisteredOp, op


def test_the_context_is_no_port():
    @method("lens.fit", version=2, paper="arXiv:2303.08112")
    def fit(ctx: MethodContext, start: Float[Tensor, " d_model"], *, n_steps: int = 3) -> Float[Tensor, " step"]:
        """Losses."""

    assert (fit.schema.is_method, fit.schema.rows_mix, fit.schema.version) == (True, True, 2)
    assert [port.name for port in fit.schema.inputs] == ["start"]
    assert [param.name for param in fit.schema.params] == ["n_steps"]


def test_a_method_needs_no_port():
    @method("lens.fit")
    def fit(ctx: MethodContext) -> Float[Tensor, " step"]:
        """Losses."""

    assert fit.schema.inputs == ()


def test_a_method_without_a_context_says_what_to_write():
    def fit(x: Float[Tensor, " a"]) -> Float[Tensor, " a"]:
        """No context."""

    with pytest.raises(DeclarationError, match="first parameter 'x' is not the context; write ctx: MethodContext"):
        method("lens.fit")(fit)

    def bare(*, k: int) -> Float[Tensor, " a"]:
        """No context."""

    with pytest.raises(DeclarationError, match="takes no context"):
        method("lens.fit")(bare)


def test_a_port_may_be_recomputed_in_each_pass():
    @method("probe.slope")
    def slope(
        ctx: MethodContext,
        target: Recomputed[Float[Tensor, "..."]] | None = None,
        *,
        k: int = 1,
    ) -> Float[Tensor, " k"]:
        """Nothing."""

    @method("probe.slopes")
    def slopes(ctx: MethodContext, targets: tuple[Recomputed[Float[Tensor, ""]], ...]) -> Float[Tensor, ""]:
        """Nothing."""

    kind = TensorType("float", (Dim("..."),))
    assert slope.schema.inputs == (PortSchema("target", kind, optional=True, recomputed=True),)
    assert slopes.schema.inputs == (PortSchema("targets", TensorType("float"), variadic=True, recomputed=True),)


def _number(ctx: MethodContext, target: Recomputed[Float[Tensor, ""]] | float) -> Float[Tensor, ""]:
    """A number does not change from pass to pass."""


def _output(ctx: MethodContext) -> Recomputed[Float[Tensor, ""]]:
    """An output."""


def _operation(target: Recomputed[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """An operation."""


@pytest.mark.parametrize(
    ("declare", "fn", "message"),
    [
        (method("a.b"), _number, "parameter 'target' is recomputed or a number; a number stays what it is"),
        (method("a.b"), _output, "returns .*Recomputed.*; write"),
        (op("a.b"), _operation, "parameter 'target' is Recomputed, but an operation runs no passes; use @method"),
    ],
)
def test_what_cannot_be_recomputed_is_refused(declare, fn, message):
    with pytest.raises(DeclarationError, match=message):
        declare(fn)


def test_a_schema_made_by_hand_is_refused_when_it_is_registered():
    schema = OpSchema("a.b", 1, "nothing", inputs=(PortSchema("x", TensorType("float"), recomputed=True),))
    collected = {"interpd_register_ops": [RegisteredOp(schema, None)]}
    collected |= {"interpd_register_methods": [], "interpd_register_artifacts": []}
    with pytest.raises(DeclarationError, match=r"'a\.b': only a port of a method can be Recomputed, not 'x'"):
        checked("a", collected, {})
