import pytest

from interpd.graph.builtin import BUILTIN_OPS, POSITIONAL
from interpd.graph.schema import CONST_KINDS
from interpd.graph.shapes import RULES
from interpd.graph.signature import parse_signature


def test_researchers_find_at_least_sixty_torch_operations():
    assert sum(name.startswith("torch.") for name in BUILTIN_OPS) >= 75


@pytest.mark.parametrize("name", sorted(BUILTIN_OPS))
def test_a_builtin_operation_is_documented_and_has_a_rule(name):
    schema = BUILTIN_OPS[name]
    assert schema.summary
    assert not schema.summary.endswith(".")
    assert schema.shape_rule in RULES
    assert {param.kind for param in schema.params} <= set(CONST_KINDS)
    assert set(POSITIONAL[name]) == {item.name for item in (*schema.inputs, *schema.params)}


def test_every_rule_serves_an_operation():
    assert set(RULES) == {schema.shape_rule for schema in BUILTIN_OPS.values()}


def test_a_signature_tells_ports_from_constants():
    line = "torch.f(a, b#, c?, d*, e@, n: int, mode: literal['x', 'y'] = 'x') -> out, extra"
    schema = parse_signature(line, rule="same", summary="").schema
    flags = [(port.name, port.allows_const, port.optional, port.variadic) for port in schema.inputs]
    assert flags == [
        *[("a", False, False, False), ("b", True, False, False), ("c", False, True, False)],
        *[("d", False, False, True), ("e", True, False, False)],
    ]
    assert [(param.name, param.required, param.default, param.choices) for param in schema.params] == [
        ("n", True, None, ()),
        ("mode", False, "x", ("x", "y")),
    ]
    assert [port.name for port in schema.outputs] == ["out", "extra"]


@pytest.mark.parametrize("line", ["torch.f", "torch.f(a b)", "torch.f(a!)"])
def test_a_malformed_signature_is_a_bug(line):
    with pytest.raises(ValueError, match="not a"):
        parse_signature(line, rule="same", summary="")
