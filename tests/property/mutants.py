"""Requests that almost can run: valid random ones, changed where strangers and careless authors change them."""

from dataclasses import replace

from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.ir import Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.types import TensorData

ODD_NUMBERS = (0, 1, -1, 2, -2, 3, 7, 2**31, -(2**63), 2**63, 1e30, float("nan"), float("inf"), 0.5, True, None)
ODD_WORDS = (
    "",
    "float32",
    "int64",
    "bool",
    "complex64",
    "logits",
    "layers.0.attn.q",
    "no.such",
    "ij,jk->ik",
    "a" * 300,
)
ODD_VALUES = (
    *ODD_NUMBERS,
    *ODD_WORDS,
    Slice(),
    Slice(1, None, 0),
    Slice(-1, None, -1),
    Slice(5, 2),
    Dots(),
    (),
    (0,),
    (-1, -1),
    (0, 1, 2, 3),
    ((1, 2), (3, 4)),
    TensorData("float32", (2,), bytes(8)),
    TensorData("int64", (), bytes(8)),
    TensorData("bool", (0,), b""),
    Blob("0" * 64, "float32", (2, 2)),
)


class Mutator:
    """Changes requests; the same generator gives the same changes."""

    def __init__(self, rng, manifest):
        self.rng = rng
        self.sites = list(manifest.sites)
        self.by_arity = {}
        for name, schema in BUILTIN_OPS.items():
            self.by_arity.setdefault(len(schema.inputs), []).append(name)

    def mutant(self, request):
        """``request`` with up to three changes."""
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            change = self.rng.choice(CHANGES)
            request = change(self, request)
        return request

    def node(self, request, **changes):
        """``request`` with one of its nodes changed."""
        nodes = list(request.graph.nodes)
        at = self.rng.randrange(len(nodes))
        made = {field: make(nodes[at]) for field, make in changes.items()}
        nodes[at] = replace(nodes[at], **made)
        return self.with_nodes(request, nodes)

    def with_nodes(self, request, nodes):
        return replace(request, graph=replace(request.graph, nodes=tuple(nodes)))

    def ref(self, n_nodes):
        return Ref(self.rng.randrange(-1, n_nodes + 1), self.rng.choice((0, 0, 0, 0, 1, -1)))

    def pick(self, choices):
        return self.rng.choice(choices)


def other_references(m, request):
    n_nodes = len(request.graph.nodes)
    return m.node(request, inputs=lambda node: tuple(_moved(arg, lambda: m.ref(n_nodes)) for arg in node.inputs))


def _moved(arg, ref):
    if isinstance(arg, tuple):
        return tuple(_moved(item, ref) for item in arg)
    return ref() if isinstance(arg, Ref) else arg


def odd_input(m, request):
    def inputs(node):
        found = list(node.inputs) or [0]
        found[m.rng.randrange(len(found))] = m.pick(ODD_VALUES)
        return tuple(found)

    return m.node(request, inputs=inputs)


def fewer_or_more_inputs(m, request):
    return m.node(request, inputs=lambda node: node.inputs[1:] if m.rng.random() < 0.5 else (*node.inputs, Ref(0)))


def other_op(m, request):
    return m.node(request, op=lambda node: m.pick(m.by_arity.get(len(node.inputs), ["no.such"])))


def odd_param(m, request):
    def params(node):
        schema = BUILTIN_OPS.get(node.op)
        names = [param.name for param in schema.params] if schema else []
        return {**node.params, m.pick([*names, "nothing"]): m.pick(ODD_VALUES)}

    return m.node(request, params=params)


def near_param(m, request):
    """Numbers that are almost right."""

    def params(node):
        return {name: _near(m, value) for name, value in node.params.items()}

    return m.node(request, params=params)


def _near(m, value):
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + m.pick((-2, -1, 1, 2))
    if isinstance(value, tuple):
        return tuple(_near(m, item) for item in value)
    return value


def other_site(m, request):
    def params(node):
        return {**node.params, "site": m.pick(m.sites)} if "site" in node.params else node.params

    return m.node(request, params=params)


def other_positions(m, request):
    places = tuple(m.rng.randrange(-14, 14) for _ in range(m.rng.randrange(4)))
    return m.node(request, params=lambda node: {**node.params, "positions": places})


def missing_param(m, request):
    return m.node(request, params=lambda node: dict(list(node.params.items())[1:]))


def other_invoke(m, request):
    return m.node(request, invoke=lambda _: m.rng.randrange(-1, 4))


def other_steps(m, request):
    return m.node(request, steps=lambda _: m.pick((None, Steps(), Steps(0, 1), Steps(1, 3), Steps(2, 2), Steps(-1, 9))))


def other_version(m, request):
    return m.node(request, version=lambda _: m.pick((0, 2, 99)))


def swapped(m, request):
    nodes = list(request.graph.nodes)
    one, other = (m.rng.randrange(len(nodes)) for _ in range(2))
    nodes[one], nodes[other] = nodes[other], nodes[one]
    return m.with_nodes(request, nodes)


def doubled(m, request):
    nodes = list(request.graph.nodes)
    return m.with_nodes(request, [*nodes, m.pick(nodes)])


def shortened(m, request):
    nodes = list(request.graph.nodes)
    return m.with_nodes(request, nodes[:-1] or nodes)


def appended(m, request):
    """One more operation, of any kind, on a value that is there, as an output."""
    n_nodes = len(request.graph.nodes)
    op = m.pick(sorted(BUILTIN_OPS))
    schema = BUILTIN_OPS[op]
    inputs = tuple(Ref(m.rng.randrange(n_nodes)) for _ in schema.inputs)
    params = {p.name: m.pick((0, 1, -1, (1,), "float32")) for p in schema.params if p.required}
    if "site" in params:
        params["site"] = m.pick(m.sites)
    made = m.with_nodes(request, [*request.graph.nodes, Node(op, inputs, params)])
    return replace(made, graph=Graph(made.graph.nodes, {**made.graph.outputs, "more": Ref(n_nodes)}))


def other_outputs(m, request):
    return replace(request, graph=replace(request.graph, outputs={"x": m.ref(len(request.graph.nodes))}))


def other_prompts(m, request):
    odd = (Prompt(token_ids=()), Prompt(token_ids=(10**9,)), Prompt(), Prompt(text=""), Prompt(token_ids=(5,) * 9))
    prompts = request.prompts[1:] if m.rng.random() < 0.3 else (*request.prompts, m.pick(odd))
    return replace(request, prompts=prompts)


def other_generation(m, request):
    odd = (None, Generation(0), Generation(2), Generation(3, do_sample=True, temperature=0.0), Generation(2, top_p=2.0))
    return replace(request, generation=m.pick(odd))


CHANGES = (
    other_references,
    odd_input,
    fewer_or_more_inputs,
    other_op,
    other_op,
    odd_param,
    near_param,
    near_param,
    other_site,
    other_site,
    other_positions,
    other_positions,
    missing_param,
    other_invoke,
    other_steps,
    other_version,
    swapped,
    doubled,
    shortened,
    appended,
    appended,
    appended,
    other_outputs,
    other_prompts,
    other_generation,
)
