"""What torch's autograd knows of how a loss came to be, where that is not what the graph says.

A graph differentiates a loss with respect to what was read, along every way between them. torch goes along those ways
only that the tensor object at hand has now. Where the two are not the same, the gradient is refused.
"""

from typing import TYPE_CHECKING

from interpd.graph.ir import Ref, node_references
from interpd_client.nnsight.bonds import SiteBond
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.tensor import Recorded

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

READS = ("site.read", "param.read")
WRITE, DETACH = "site.write", "tensor.detach"


def as_it_was(recorder: "Recorder", tensor: Recorded, first: int) -> frozenset[Ref]:
    """What stood for a tensor in the nodes before the node ``first``."""
    refs = frozenset(part.ref for part in tensor._memory.rows if part is not None)
    if not tensor._steps:
        return refs
    nodes = recorder.recording.nodes[:first]
    return frozenset(Ref(at) for at, node in enumerate(nodes) if node.op == DETACH and node.inputs[0] in refs)


def refuse_other_history(recorder: "Recorder", loss: Ref, tensor: Recorded, reads: tuple[Ref, ...]) -> None:
    """Raises ``CannotRecord`` where torch's gradient of ``loss`` with respect to ``tensor`` is another one."""
    bond, memory = tensor._memory.bond, tensor._memory
    before = bond.before if isinstance(bond, SiteBond) else frozenset()
    own = bond.own_nodes if isinstance(bond, SiteBond) else range(0)
    sources = _sources(recorder, loss, own)
    if before & sources:
        raise CannotRecord(
            "the loss follows partly from what was computed of this tensor before a module was set to it, and such "
            "parts have no gradient; compute them behind the assignment"
        )
    if memory.has_changed_rows and sources & set(reads):
        raise CannotRecord(
            "another invoke changed its rows of this batch in place, and torch takes gradients of all rows as they "
            "were after that; set the module's output there instead: `module.output = new`"
        )
    if any(ref.node in recorder.without_gradient for ref in sources):
        raise CannotRecord(
            "the loss, or what a module was set to, was computed where torch's gradients are off (`torch.no_grad()`); "
            "compute it outside, with `.detach()` on what counts as a constant"
        )


def _sources(recorder: "Recorder", loss: Ref, apart: range) -> set[Ref]:
    """What the loss and all writes but those of the nodes ``apart`` are computed of."""
    nodes = recorder.recording.nodes
    waiting = [loss]
    for number, node in enumerate(nodes):
        if node.op == WRITE and number not in apart:
            waiting += node_references(node)
    seen = set(waiting)
    while waiting:
        node = nodes[waiting.pop().node]
        # no gradient goes through what is detached
        new = set(() if node.op == DETACH else node_references(node)) - seen
        seen |= new
        waiting += new
    return seen
