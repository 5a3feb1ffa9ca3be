"""Rules about single nodes: operation, references, constants, names of the model's places."""

from collections.abc import Callable, Iterator, Mapping
from math import isnan

from interpd.errors import Violation
from interpd.graph.ir import Arg, Blob, Dots, Node, Ref, Slice
from interpd.graph.names import quoted
from interpd.graph.order import PREFIX, READ, WRITE
from interpd.graph.schema import OpSchema, ParamSchema, PortSchema
from interpd.graph.subject import Subject
from interpd.graph.types import ITEM_BYTES, TensorData


def unknown_operations(subject: Subject) -> Iterator[Violation]:
    """Operations and versions that this worker does not have."""
    known = subject.manifest.ops
    for index, node in enumerate(subject.graph.nodes):
        schema = known.get(node.op)
        if schema is None:
            hint = subject.suggestions.near(node.op, "op", known)
            yield subject.fault("UNKNOWN_OP", index, "op", f"operation {quoted(node.op)} does not exist{hint}")
        elif schema.version != node.version:
            have = f"this worker has {node.op}@{schema.version}"
            yield subject.fault("OP_VERSION", index, "version", f"wants {node.op}@{node.version}, {have}")


def bad_invokes(subject: Subject) -> Iterator[Violation]:
    """Nodes of prompts that are not there."""
    n_prompts = len(subject.request.prompts)
    if not n_prompts:
        subject.bad.update(range(len(subject.graph.nodes)))
        return
    for index, node in enumerate(subject.graph.nodes):
        if not 0 <= node.invoke < n_prompts:
            message = f"prompt {node.invoke} does not exist, there are {n_prompts}"
            yield subject.fault("BAD_PROMPT", index, "invoke", message)


def bad_references(subject: Subject) -> Iterator[Violation]:
    """References to nodes or outputs that are not there, or not there yet."""
    nodes, ops = subject.graph.nodes, subject.manifest.ops
    forward: list[tuple[int, int]] = []
    for index, refs in enumerate(subject.refs):
        for ref in refs:
            if 0 <= ref.node < index:
                schema = ops.get(nodes[ref.node].op)
                if schema is not None and not 0 <= ref.output < len(schema.outputs):
                    message = f"{subject.name(ref.node)} ({schema.name}) has no output {ref.output}"
                    yield subject.fault("DANGLING_REFERENCE", index, _where(nodes[index], ref), message)
            elif index <= ref.node < len(nodes):
                forward.append((index, ref.node))
            else:
                message = f"node {ref.node} does not exist, there are {len(nodes)}"
                yield subject.fault("DANGLING_REFERENCE", index, _where(nodes[index], ref), message)
    if forward:
        yield from _forward(subject, forward)


def _where(node: Node, ref: Ref) -> str:
    """The input in which ``ref`` stands."""
    for place, arg in enumerate(node.inputs):
        todo: list[Arg] = [arg]
        for item in todo:
            if item == ref:
                return f"inputs[{place}]"
            if isinstance(item, tuple):
                todo.extend(item)
    return ""


def _forward(subject: Subject, forward: list[tuple[int, int]]) -> Iterator[Violation]:
    """CYCLE once per cycle, FORWARD_REFERENCE for the others."""
    group = _components([[ref.node for ref in refs] for refs in subject.refs])
    reported: set[int] = set()
    for index, target in forward:
        where = _where(subject.graph.nodes[index], next(r for r in subject.refs[index] if r.node == target))
        if group[index] != group[target]:
            message = f"{subject.name(target)} comes later in the list: put it before {subject.name(index)}"
            yield subject.fault("FORWARD_REFERENCE", index, where, message)
        elif group[index] not in reported:
            reported.add(group[index])
            members = [subject.name(i) for i, number in enumerate(group) if number == group[index]]
            names = ", ".join(members[:5]) + (f" and {len(members) - 5} more" if len(members) > 5 else "")
            yield subject.fault("CYCLE", index, where, f"{names} depend on themselves: no order exists")
        subject.bad.add(index)


def _components(edges: list[list[int]]) -> list[int]:
    """The number of the strongly connected component of each node (Tarjan's algorithm, without recursion)."""
    n = len(edges)
    number, low, group = [-1] * n, [0] * n, [-1] * n
    stack: list[int] = []
    count = 0
    for root in range(n):
        work = [(root, iter(edges[root]))] if number[root] < 0 else []
        while work:
            node, rest = work[-1]
            if number[node] < 0:
                number[node] = low[node] = count
                count += 1
                stack.append(node)
            target = next((t for t in rest if 0 <= t < n and group[t] < 0), None)
            if target is not None and number[target] < 0:
                work.append((target, iter(edges[target])))
            elif target is not None:
                low[node] = min(low[node], number[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    while group[node] < 0:
                        group[stack.pop()] = node
    return group


def bad_inputs(subject: Subject) -> Iterator[Violation]:
    """Too few or too many inputs, and constants where only values may stand."""
    for index, node in subject.sound():
        schema = subject.schema(index)
        ports = schema.inputs
        if len(node.inputs) > len(ports):
            message = f"{node.op} takes {len(ports)} inputs, got {len(node.inputs)}"
            yield subject.fault("PORT_MISMATCH", index, f"inputs[{len(ports)}]", message)
            continue
        for place, port in enumerate(ports):
            arg = node.inputs[place] if place < len(node.inputs) else None
            if type(arg) is Ref and not port.variadic:
                continue
            message = _input_problem(port, arg)
            if message:
                yield subject.fault("PORT_MISMATCH", index, f"inputs[{place}]", f"port {port.name!r} {message}")
                break


def _input_problem(port: PortSchema, arg: Arg) -> str:
    if port.name == "index" and port.allows_const:
        return _index_problem(arg)
    if arg is None:
        return "" if port.optional else "is missing"
    if port.variadic:
        if isinstance(arg, tuple) and arg and all(_is_tensor(item) for item in arg):
            return ""
        return f"wants a tuple of at least one value, got {quoted(arg)}"
    if _is_tensor(arg) or (port.allows_const and isinstance(arg, bool | int | float)):
        return ""
    wanted = "a value or a number" if port.allows_const else "a value"
    return f"wants {wanted}, got {quoted(arg)}"


def _is_tensor(arg: Arg) -> bool:
    return isinstance(arg, Ref | TensorData) or (isinstance(arg, Blob) and arg.dtype in ITEM_BYTES)


def _index_problem(arg: Arg) -> str:
    for part in arg if isinstance(arg, tuple) else (arg,):
        is_list = isinstance(part, tuple) and bool(part) and all(type(item) is int for item in part)
        if not (part is None or type(part) is int or is_list or isinstance(part, Slice | Dots) or _is_tensor(part)):
            return f"wants integers, slices, '...', None and values, got {quoted(part)}"
        if isinstance(part, Slice) and not all(s is None or type(s) is int for s in (part.start, part.stop, part.step)):
            return f"wants integers in a slice, got {quoted(part)}"
    return ""


def _is_int(arg: Arg) -> bool:
    return type(arg) is int and -(1 << 62) < arg < 1 << 62


def _is_number(arg: Arg) -> bool:
    return _is_int(arg) or (type(arg) is float and not isnan(arg))


def _tuple_of(test: Callable[[Arg], bool]) -> Callable[[Arg], bool]:
    return lambda arg: isinstance(arg, tuple) and all(map(test, arg))


_KINDS: Mapping[str, tuple[str, Callable[[Arg], bool]]] = {
    "int": ("an integer", _is_int),
    "float": ("a number", lambda arg: _is_number(arg) or type(arg) is bool),
    "bool": ("True or False", lambda arg: type(arg) is bool),
    "str": ("a string", lambda arg: isinstance(arg, str)),
    "dtype": (f"a dtype ({', '.join(ITEM_BYTES)})", lambda arg: isinstance(arg, str) and arg in ITEM_BYTES),
    "literal": ("one of its choices", lambda arg: isinstance(arg, str | int | float | bool)),
    "index": ("an index", lambda arg: not _index_problem(arg)),
    "ints": ("an integer or a tuple of integers", lambda arg: _is_int(arg) or _tuple_of(_is_int)(arg)),
    # torch takes one dim for several; whoever else asks for integers is promised a tuple
    "ints as a tuple": ("a tuple of integers", _tuple_of(_is_int)),
    "floats": ("a tuple of numbers", _tuple_of(_is_number)),
    "strs": ("a tuple of strings", _tuple_of(lambda arg: isinstance(arg, str))),
    "tensor": ("a constant tensor", lambda arg: isinstance(arg, TensorData | Blob)),
    "any": ("a constant", lambda arg: not isinstance(arg, Ref)),
}
"""What each kind of constant wants, in words and as a test."""


def bad_params(subject: Subject) -> Iterator[Violation]:
    """Constants that are unknown, missing, of the wrong kind, or not among the choices."""
    for index, node in subject.sound():
        schema = subject.schema(index)
        if not node.params and not any(param.required for param in schema.params):
            continue
        for where, code, message in _param_problems(subject, schema, node):
            yield subject.fault(code, index, where, message)


def _param_problems(subject: Subject, schema: OpSchema, node: Node) -> Iterator[tuple[str, str, str]]:
    known = {param.name: param for param in schema.params}
    for name in node.params:
        if name not in known:
            hint = subject.suggestions.near(name, f"params of {schema.name}", known)
            shown = name if len(name) < 40 and name.isidentifier() else quoted(name)
            yield f"params.{shown}", "BAD_PARAM", f"{schema.name} has no param {quoted(name)}{hint}"
    for name, param in known.items():
        value = node.params.get(name)
        if name not in node.params or (value is None and param.default is None and not param.required):
            if param.required:
                yield f"params.{name}", "BAD_PARAM", f"{schema.name} needs param {name!r} ({param.kind})"
            continue
        is_torch = schema.plugin == "interpd" and schema.name.startswith("torch.")
        kind = "ints as a tuple" if param.kind == "ints" and not is_torch else param.kind
        code, message = _param_problem(subject, param, kind, value)
        if message:
            yield f"params.{name}", code, message


def _param_problem(subject: Subject, param: ParamSchema, kind: str, value: Arg) -> tuple[str, str]:
    if param.kind.startswith("artifact:"):
        return _artifact_problem(subject, param, value)
    wanted, fits = _KINDS[kind]
    if not fits(value):
        return "BAD_PARAM", f"param {param.name!r} wants {wanted}, got {quoted(value)}"
    if param.choices and value not in param.choices:
        choices = ", ".join(map(repr, param.choices))
        return "BAD_PARAM", f"param {param.name!r} wants one of {choices}, got {quoted(value)}"
    return "", ""


def _artifact_problem(subject: Subject, param: ParamSchema, value: Arg) -> tuple[str, str]:
    kind = param.kind.removeprefix("artifact:")
    of_kind = [name for name, info in subject.manifest.artifacts.items() if info.kind == kind]
    if not isinstance(value, str):
        return "BAD_PARAM", f"param {param.name!r} wants the name of an artifact of kind {kind!r}, got {quoted(value)}"
    info = subject.manifest.artifacts.get(value)
    if info is None:
        there = (
            f"there is {', '.join(map(quoted, of_kind[:5]))}{', ...' * (len(of_kind) > 5)}"
            if of_kind
            else "there is none"
        )
        hint = subject.suggestions.near(value, f"artifacts of {kind}", of_kind) or f"; {there}: upload it first"
        return "UNKNOWN_ARTIFACT", f"artifact {quoted(value)} does not exist{hint}"
    if info.kind != kind:
        return "UNKNOWN_ARTIFACT", f"artifact {quoted(value)} is a {info.kind!r}, wanted: {kind!r}"
    return "", ""


def unknown_places(subject: Subject) -> Iterator[Violation]:
    """Sites, modules and weights that the model does not have, or does not have for this."""
    manifest = subject.manifest
    absent = {site.name: site.reason for site in manifest.absent_sites}
    for index, node in subject.sound(READ, WRITE):
        name = str(node.params["site"])
        site = manifest.sites.get(name)
        if site is not None:
            if node.op == WRITE and not site.writable:
                yield subject.fault("NOT_WRITABLE", index, "params.site", f"site {name!r} can only be read")
        elif name in absent:
            message = f"model {manifest.model.name!r} has no site {name!r}: {absent[name]}"
            yield subject.fault("ABSENT_SITE", index, "params.site", message)
        else:
            hint = subject.suggestions.near(name, "site", manifest.sites)
            yield subject.fault("UNKNOWN_SITE", index, "params.site", f"site {quoted(name)} does not exist{hint}")
    for index, node in subject.sound("module.call"):
        name = str(node.params["module"])
        if name not in manifest.modules:
            hint = subject.suggestions.near(name, "module", manifest.modules)
            yield subject.fault("UNKNOWN_MODULE", index, "params.module", f"module {quoted(name)} does not exist{hint}")
        elif not manifest.modules[name].is_callable:
            message = f"module {name!r} ({manifest.modules[name].kind}) cannot be applied to a value"
            yield subject.fault("UNSUPPORTED", index, "params.module", message)
    for index, node in subject.sound("param.read"):
        name = str(node.params["name"])
        if name not in manifest.parameters:
            hint = subject.suggestions.near(name, "parameter", manifest.parameters)
            message = f"parameter {quoted(name)} does not exist{hint}"
            yield subject.fault("UNKNOWN_PARAMETER", index, "params.name", message)


def bad_steps(subject: Subject) -> Iterator[Violation]:
    """Steps on nodes that have none, or that the generation does not reach."""
    for index, node in subject.sound():
        steps = node.steps
        if steps is None:
            continue
        if node.op not in (READ, WRITE, PREFIX):
            message = f"only reads and writes have steps; {node.op} runs at those of its inputs"
        elif not subject.n_steps:
            message = "steps are those of a generation, and this request does not generate"
        elif steps.start < 0 or (steps.stop is not None and steps.stop <= steps.start):
            message = f"{steps.start}..{steps.stop} holds no step: wants 0 <= start < stop"
        elif steps.start >= subject.n_steps:
            last = subject.n_steps - 1
            message = f"step {steps.start} is never reached: {subject.n_steps} new tokens take the steps 0..{last}"
        elif node.op != PREFIX and steps.stop != 1 and subject.manifest.sites[str(node.params["site"])].prefill_only:
            site = node.params["site"]
            message = f"site {site!r} exists at step 0 only, because the encoder runs once: leave the steps out"
        else:
            continue
        yield subject.fault("BAD_STEPS", index, "steps", message)
