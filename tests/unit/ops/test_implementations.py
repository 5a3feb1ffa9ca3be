import pytest
import torch

from interpd.graph.builtin import BUILTIN_OPS
from interpd.ops.implementations import IMPLEMENTATIONS, NEEDS_DEVICE

X = torch.arange(6.0).reshape(2, 3)


def test_every_algebraic_operation_is_implemented_and_no_other():
    assert set(IMPLEMENTATIONS) == {name for name in BUILTIN_OPS if name.startswith(("torch.", "tensor."))}


def test_makers_without_inputs_are_told_the_device():
    assert (
        set(IMPLEMENTATIONS) & {n for n, s in BUILTIN_OPS.items() if not s.inputs and n != "tokens.ids"} == NEEDS_DEVICE
    )


def test_setitem_leaves_its_input_alone_and_passes_gradients():
    x = X.clone().requires_grad_()
    value = torch.ones(2, dtype=torch.float64, requires_grad=True)
    out = IMPLEMENTATIONS["tensor.setitem"](x, (slice(None), -1), value)
    assert out.tolist() == [[0.0, 1.0, 1.0], [3.0, 4.0, 1.0]]
    assert torch.equal(x, X)
    assert [grad.sum().item() for grad in torch.autograd.grad(out.sum(), (x, value))] == [4.0, 2.0]


@pytest.mark.parametrize("index", [(slice(None), (0, -1)), (Ellipsis, torch.tensor([0, 2])), torch.tensor([[1], [0]])])
def test_getitem_takes_lists_and_values(index):
    listed = tuple(list(i) if isinstance(i, tuple) else i for i in index) if isinstance(index, tuple) else index
    assert torch.equal(IMPLEMENTATIONS["tensor.getitem"](X, index), X[listed])


BAD = torch.tensor([[0, 1, 3]])


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops["torch.gather"](X, BAD, dim=1),
        lambda ops: ops["torch.gather"](X, -BAD, dim=1),
        lambda ops: ops["torch.take_along_dim"](X, BAD.expand(2, 3), dim=1),
        lambda ops: ops["torch.index_select"](X, BAD[0], dim=1),
        lambda ops: ops["torch.scatter"](X, BAD, 1.0, dim=1),
        lambda ops: ops["torch.scatter_add"](X, BAD, X[:1], dim=1),
        lambda ops: ops["torch.one_hot"](BAD, num_classes=3),
        lambda ops: ops["tensor.getitem"](X, (0, BAD)),
        lambda ops: ops["tensor.setitem"](X, (0, BAD - 4), 1.0),
    ],
)
def test_indices_from_data_are_checked_before_a_device_sees_them(call):
    with pytest.raises(IndexError, match="is out of range, allowed: "):
        call(IMPLEMENTATIONS)


@pytest.mark.parametrize("name", ["torch.randn", "torch.rand"])
def test_noise_is_a_function_of_its_seed(name):
    noise = IMPLEMENTATIONS[name]
    assert torch.equal(noise(size=(3,), seed=1), noise(size=(3,), seed=1))
    assert not torch.equal(noise(size=(3,), seed=1), noise(size=(3,), seed=2))
    assert noise(size=3, seed=1, dtype="bfloat16").dtype == torch.bfloat16


def test_a_number_may_come_first():
    assert IMPLEMENTATIONS["torch.sub"](1, X).tolist() == (1 - X).tolist()
    assert IMPLEMENTATIONS["torch.pow"](2, X).tolist() == (2**X).tolist()


def test_reductions_over_everything_need_no_dim():
    assert IMPLEMENTATIONS["torch.amax"](X).item() == 5.0
    assert IMPLEMENTATIONS["torch.all"](X).item() is False
    assert IMPLEMENTATIONS["torch.prod"](X, keepdim=True).shape == (1, 1)


def test_einsum_takes_its_operands_as_a_tuple():
    assert torch.equal(IMPLEMENTATIONS["torch.einsum"]((X, X), equation="ij,kj->ik"), X @ X.T)


def test_a_cross_entropy_weighs_and_ignores_classes_and_checks_them():
    logits, weight = torch.randn(3, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    classes = torch.tensor([3, -100, 0])
    out = IMPLEMENTATIONS["torch.cross_entropy"](logits, classes, weight)
    assert torch.equal(out, torch.nn.functional.cross_entropy(logits, classes, weight))
    with pytest.raises(IndexError, match=r"index 4 is out of range, allowed: 0\.\.3"):
        IMPLEMENTATIONS["torch.cross_entropy"](logits, torch.tensor([4, 0, 0]))


@pytest.mark.parametrize("reduction", ["none", "sum", "batchmean"])
def test_a_divergence_is_that_of_torch(reduction):
    log_p, q = torch.randn(3, 4).log_softmax(-1), torch.randn(3, 4).softmax(-1)
    out = IMPLEMENTATIONS["torch.kl_div"](log_p, q, reduction=reduction)
    assert torch.equal(out, torch.nn.functional.kl_div(log_p, q, reduction=reduction))
