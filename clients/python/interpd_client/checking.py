"""The check before sending: the service's own checker, run here on the manifest that the client fetched."""

from interpd.errors import InvalidGraph
from interpd.graph.check import CheckReport, check
from interpd.graph.ir import Generation, Graph, Ref
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorType
from interpd_client.blame import placed
from interpd_client.places import Places
from interpd_client.recording import Recording


def local_report(recording: Recording, request: RunRequest) -> CheckReport:
    """Violations, types and cost, with the token counts of those prompts whose tokens are known already."""
    return check(request, recording.manifest, recording.n_tokens())


def knows_its_artifacts(report: CheckReport) -> bool:
    """Whether every artifact and adapter that the request names stands in the manifest that was fetched."""
    return all(violation.code not in ("UNKNOWN_ARTIFACT", "UNKNOWN_ADAPTER") for violation in report.violations)


def type_of(recording: Recording, ref: Ref) -> TensorType:
    """The type of a value that is recorded but may not be saved. Raises ``InvalidGraph`` when it has none."""
    graph = Graph(tuple(recording.nodes[: ref.node + 1]), {"value": ref})
    generation: Generation | None = recording.generation
    request = RunRequest("type", recording.manifest.model.name, tuple(recording.prompts), graph, generation)
    report = local_report(recording, request)
    types = report.types[ref.node] if ref.node < len(report.types) else None
    if types is None:
        raise InvalidGraph(placed(report.violations, Places(tuple(recording.places))))
    return types[ref.output]
