"""A graph as text: one line per node, in the order in which the nodes run."""

from collections.abc import Iterator

from interpd.graph.check import CheckReport
from interpd.graph.ir import Arg, Blob, Dots, Node, Ref, Slice
from interpd.graph.names import quoted
from interpd.graph.order import AFTER, BEFORE, NodePlan
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData


def explain(request: RunRequest, report: CheckReport) -> str:
    """What runs when, with which types, what comes back and what it costs; the violations of a bad request."""
    lines = [f"problem: {violation}" for violation in report.violations]
    indices = range(len(request.graph.nodes))
    plan = report.plan
    if plan is not None:
        indices = sorted(indices, key=lambda index: (plan.nodes[index].ready, index))  # type: ignore[assignment]
    when = ""
    for index in indices:
        if plan is not None:
            now = _when(plan.nodes[index], request.generation is not None)
            if now != when:
                lines.append(f"{now}:")
                when = now
        lines.append(f"  {_line(request, report, index)}")
    lines += [f"returns {quoted(name)}: {kind}" for name, kind in report.outputs]
    lines += _cost(report)
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def _when(node: NodePlan, generates: bool) -> str:
    if node.order == BEFORE and node.pass_index == 0:
        return "before any pass"
    what = "generation" if generates else "pass"
    return f"{'after' if node.order >= AFTER else 'in'} {what} {node.pass_index}"


def _line(request: RunRequest, report: CheckReport, index: int) -> str:
    node = request.graph.nodes[index]
    types = report.types[index] if index < len(report.types) else None
    kinds = "" if types == () else " -> ?" if types is None else f" -> {', '.join(map(str, types))}"
    where = f" of prompt {node.invoke}" if len(request.prompts) > 1 and _belongs(node) else ""
    steps = (
        f" at steps {node.steps.start}..{'' if node.steps.stop is None else node.steps.stop - 1}" if node.steps else ""
    )
    label = f" ({node.label})" if node.label else ""
    return f"%{index}{label} = {node.op}({', '.join(_arguments(node))}){where}{steps}{kinds}"


def _belongs(node: Node) -> bool:
    return node.op.startswith(("site.", "tokens.")) and node.op != "site.grad"


def _arguments(node: Node) -> Iterator[str]:
    yield from map(_arg, node.inputs)
    for name, value in node.params.items():
        yield f"{name}={_arg(value)}"


def _arg(arg: Arg) -> str:
    match arg:
        case Ref():
            return f"%{arg.node}" + (f".{arg.output}" if arg.output else "")
        case Slice():
            parts = ["" if part is None else str(part) for part in (arg.start, arg.stop, arg.step)]
            return ":".join(parts if arg.step is not None else parts[:2])
        case Dots():
            return "..."
        case TensorData() | Blob():
            return f"{arg.dtype}{list(arg.shape)}"
        case tuple():
            return f"({', '.join(map(_arg, arg))})"
        case _:
            return quoted(arg)


def _cost(report: CheckReport) -> Iterator[str]:
    if report.estimate is not None:
        yield f"costs {report.estimate}"
