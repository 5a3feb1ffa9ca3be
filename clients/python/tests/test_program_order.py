"""The order of the program against the order of the forward pass."""

import warnings

import pytest

import interpd_client as interpd
from interpd.graph.run import Cost, Done, Provenance
from interpd_client.testing import FakeTransport, fake_manifest


def test_a_write_before_what_was_read_above_it_warns_at_its_own_line(model):
    t = model.trace("a b")
    t.save(logits=t.logits)
    t.layers[0].resid_post[:, -1] += 1.0  # changes the logits
    with pytest.warns(interpd.ProgramOrder) as caught:
        t.run()
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("the write at 'layers.0.resid_post' also changes node 'logits'")
    assert text.endswith(": t.save(logits=t.logits))")
    with open(warning.filename) as source:
        assert source.readlines()[warning.lineno - 1].strip().endswith("# changes the logits")


def test_writes_before_reads_and_reads_of_the_same_site_are_silent(model):
    with warnings.catch_warnings(), model.trace("a b") as t:
        warnings.simplefilter("error")
        before = t.layers[1].resid_post
        t.layers[1].resid_post[:, -1] += 1.0
        t.layers[0].resid_post[:, -1] += 1.0
        t.save(shape=t.layers[0].resid_post, logits=t.logits)
    assert before.ndim == 3


def test_the_check_and_the_explanation_say_it_with_both_lines(model):
    t = model.trace("a b")
    t.save(logits=t.logits)
    t.layers[0].resid_post = 0.0
    (note,) = t.check().notes
    assert note.endswith(": t.layers[0].resid_post = 0.0)")
    assert f"note: {note}" in t.explain()


def test_warnings_of_the_service_point_at_the_users_line():
    def answer(request):
        yield Done(
            request.run_id, Provenance("", "", "", (), "", "", ""), Cost(0, 0, 0, 0), warnings=("graph.nodes[0]: look",)
        )

    with interpd.Client(FakeTransport(fake_manifest(), answer)).model("fake").trace("a") as t:
        t.save(x=t.embed)
    (warning,) = t.result.warnings
    assert warning.startswith("graph.nodes[0]: look (test_program_order.py:")


def test_long_lines_are_quoted_by_their_beginning(model):
    t = model.trace("a")
    t.save(x=t.embed.softmax(7), a_name_that_makes_the_line_longer_than_anybody_wants_to_see_it_quoted_in_a_message=t.embed)  # fmt: skip  # noqa: E501
    message = t.check().violations[0].place
    assert message.endswith(" ...")
    assert len(message.rpartition("test_program_order.py")[2]) < 130
