"""A write that changes what was read before it in the list."""

import pytest

from interpd.graph.check import check
from interpd.graph.ir import Generation, Node, Ref, Steps
from interpd.graph.late_writes import LateWrite, late_writes

LOGITS, EARLY, LATE = "logits", "layers.0.resid_post", "layers.1.resid_post"
ZERO = Node("torch.zeros", (), {"size": (8,)})


@pytest.fixture
def found(manifest):
    return lambda request: list(late_writes(request.graph, manifest))


def test_a_write_that_lies_before_an_earlier_read_is_found(found, ask, read, write):
    request = ask(ZERO, read(EARLY), read(LOGITS), write(0, LATE), outputs={"early": 1, "logits": 2})
    assert found(request) == [LateWrite(2, 3)]


def test_the_check_notes_it_and_says_what_to_do(manifest, ask, read, write):
    request = ask(ZERO, read(LOGITS, label="l"), write(0, LATE), outputs={"l": 1})
    report = check(request, manifest)
    assert report.violations == ()
    (note,) = report.notes
    assert note.startswith("graph.nodes[2]: the write at 'layers.1.resid_post' also changes node 'l', which")
    assert "write before you read" in note


@pytest.mark.parametrize("site", [EARLY, LATE])
def test_reads_at_the_same_site_or_before_the_write_keep_what_they_saw(found, ask, read, write, site):
    assert found(ask(ZERO, read(site), write(0, LATE), read(LOGITS), outputs={"x": 1, "y": 3})) == []


def test_a_read_that_only_a_write_uses_is_no_surprise(found, ask, read, write):
    nodes = [ZERO, read(LATE), write(1, LATE), write(0, EARLY), read(LOGITS)]
    assert found(ask(*nodes, outputs={"x": 4})) == []


def test_each_prompt_has_a_pass_of_its_own(found, ask, read, write):
    assert (
        found(ask(ZERO, read(LOGITS, 0), write(0, LATE, 1), read(LOGITS, 1), outputs={"x": 1, "y": 3}, prompts=2)) == []
    )


@pytest.mark.parametrize(("steps", "is_found"), [(None, True), (Steps(0, 1), False), (Steps(1, 4), True)])
def test_only_common_steps_count(found, ask, read, steps, is_found):
    write = Node("site.write", (Ref(0),), {"site": LATE}, steps=steps)
    reads = read(LOGITS, steps=Steps(1, 2), positions=(-1,))
    request = ask(ZERO, reads, write, outputs={"x": 1}, generation=Generation(4))
    assert bool(found(request)) == is_found
