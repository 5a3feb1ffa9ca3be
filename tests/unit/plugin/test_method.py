import pytest
from jaxtyping import Float
from numpy import ndarray as Tensor

from interpd.plugin.declaration import DeclarationError
from interpd.plugin.method import MethodContext, method


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
