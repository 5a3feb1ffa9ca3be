"""A trace as text before it runs, each node with the user's line."""

import re

from interpd.graph.check import CheckReport
from interpd.graph.explain import explain
from interpd_client.listings import Explanation
from interpd_client.runs import Job

_NODE_LINE = re.compile(r"\s*%(\d+)\b")


def explained(job: Job, report: CheckReport) -> Explanation:
    """What runs when, with types, results and cost; behind each node the line of the user's program."""
    lines = explain(job.request, report).splitlines()
    nodes = [_NODE_LINE.match(line) for line in lines]
    width = max((len(line) for line, node in zip(lines, nodes, strict=True) if node), default=0)
    return Explanation(
        "\n".join(
            f"{line:<{width}}  # {job.places.nodes[int(node.group(1))]}" if node else line
            for line, node in zip(lines, nodes, strict=True)
        )
    )
