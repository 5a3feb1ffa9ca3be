from interpd.graph.builtin import BUILTIN_OPS
from interpd.plugin.registry import load_registry

ENGINE_FAMILIES = ("site", "module", "param", "tokens")


def test_the_built_in_operations_come_in_through_the_same_door():
    registry = load_registry([])
    assert registry.plugins[0].name == "interpd"
    assert registry.plugins[0].status == "loaded"
    assert registry.ops.keys() == BUILTIN_OPS.keys()
    assert {name: op.schema for name, op in registry.ops.items()} == dict(BUILTIN_OPS)


def test_every_tensor_operation_has_a_function_and_the_engine_runs_the_others():
    without = {name for name, op in load_registry([]).ops.items() if op.fn is None}
    assert without == {name for name in BUILTIN_OPS if name.split(".")[0] in ENGINE_FAMILIES}
