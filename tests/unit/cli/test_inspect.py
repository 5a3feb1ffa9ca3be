from interpd.cli.inspect import signature
from interpd.graph.schema import OpSchema, ParamSchema, PortSchema


def test_a_port_that_is_computed_anew_in_every_pass_is_marked():
    ports = (PortSchema("x"), PortSchema("targets", variadic=True, recomputed=True))
    schema = OpSchema("probe.slope", 1, "a method", ports, (ParamSchema("k", "int", required=False, default=3),))
    assert signature(schema) == "probe.slope(x, *targets~, *, k=3)"
