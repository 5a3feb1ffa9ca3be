"""Checks and explanations before the run, and the user's own lines in them."""

import re

import pytest

import interpd_client as interpd
from interpd.graph.check import CheckReport
from interpd.graph.schema import Limits


def test_a_wrong_shape_is_refused_before_anything_is_sent(model, transport):
    with pytest.raises(interpd.InvalidGraph) as caught, model.trace("a b") as t:
        t.save(product=t.embed @ t.param("lm_head.weight"))
    (violation,) = caught.value.violations
    assert violation.code == "PORT_MISMATCH"
    place = violation.place
    assert place.startswith("test_checks.py:")
    assert place.endswith(""": t.save(product=t.embed @ t.param("lm_head.weight"))""")
    assert violation.path == "graph.nodes[2].inputs[1]"
    assert str(caught.value) == f"{place}\n    {violation.message} [PORT_MISMATCH]"
    assert transport.requests == []


def test_what_only_the_service_can_know_points_at_the_line_too(model):
    with pytest.raises(interpd.InvalidGraph, match=r"test_checks.py:\d+: t.save\(product=h @ h\)"):
        with model.trace("a b") as t:
            h = t.layers[1].resid_post
            t.save(product=h @ h)


def test_lines_of_the_command_line_are_nobodys(model):
    asked = "def asked(model):\n    t = model.trace('a b')\n    t.save(x=t.logits[:, :, 99])\n    t.run()\n"
    for name, is_known in (("somebody.s", True), ("interpd.cli.extensions", False)):
        space = {"__name__": name}
        exec(compile(asked, "asked.py", "exec"), space)
        with pytest.raises(interpd.CallerError) as caught:
            space["asked"](model)
        assert ("asked.py:" in str(caught.value)) == is_known
        assert "POSITION_OUT_OF_RANGE" in str(caught.value)


def test_every_violation_names_its_own_line(model):
    t = model.trace("a b")
    t.layers[0].resid_post = t.layers[2].resid_post
    t.save(x=t.logits[:, :, 99])
    report = t.check()
    assert sorted(violation.code for violation in report.violations) == ["POSITION_OUT_OF_RANGE", "SITE_ORDER"]
    order, position = sorted(violation.place for violation in report.violations)
    assert order.endswith(": t.layers[0].resid_post = t.layers[2].resid_post")
    assert position.endswith(": t.save(x=t.logits[:, :, 99])")
    with pytest.raises(
        interpd.InvalidGraph, match=r"^the graph breaks 2 rules:\n  test_checks.py:\d+: t.save.*\n    node"
    ):
        t.run()


def test_what_concerns_an_output_points_at_its_save(model):
    with pytest.raises(interpd.InvalidGraph, match=r"^test_checks.py:\d+: g.save\(h=h\)\n    node 'h'.* \[BAD_STEPS\]"):
        with model.generate("a b", max_new_tokens=3) as g:
            h = g.layers[0].resid_post
            g.save(h=h)


def test_what_concerns_the_whole_request_points_at_the_with(model, transport):
    with pytest.raises(
        interpd.InvalidGraph,
        match=r"^test_checks.py:\d+: with model.trace\(\"a\"\) as t:\n    .*`t.save\(name=value\)`",
    ):
        with model.trace("a") as t:
            t.layers[0].resid_post * 2


def test_what_the_service_refuses_is_led_by_the_line_too(model, transport, monkeypatch):
    monkeypatch.setattr("interpd_client.trace.local_report", lambda recording, request: CheckReport(()))
    t = model.trace("one two three")
    t.save(x=t.layers[0].resid_post[:, 5])
    with pytest.raises(
        interpd.PositionOutOfRange, match=r"^test_checks.py:\d+: t.save\(x=.*\n    node .* position 5"
    ) as error:
        t.run()
    assert error.value.facts["path"].startswith("graph.nodes[1]")


def test_what_is_wrong_with_every_turn_of_a_loop_is_said_once(model, transport, monkeypatch):
    problem = "artifact 'mylens' does not exist"
    message = "\n  ".join(f"graph.nodes[{number}].params['lens']: {problem}" for number in (0, 1, 2))
    refused = interpd.ArtifactNotFound(message, path="graph.nodes[0].params['lens']")

    def refuse(*_):
        raise refused

    monkeypatch.setattr(transport, "_answer", refuse)
    t = model.trace("one two three")
    t.save(all=[layer.resid_post for layer in t.layers])
    with pytest.raises(interpd.ArtifactNotFound) as error:
        t.run()
    assert str(error.value).count(problem) == 1


def test_the_local_check_uses_tokens_that_are_known(model):
    t = model.trace("one two three")
    t.save(x=t.layers[0].resid_post[:, 5])
    assert t.check().violations == ()
    t.tokens("two")
    assert [violation.code for violation in t.check().violations] == ["POSITION_OUT_OF_RANGE"]


def test_the_remote_check_tokenises(model):
    t = model.trace("one two three")
    t.save(x=t.layers[0].resid_post[:, 5])
    (violation,) = t.check(remote=True).violations
    assert violation.code == "POSITION_OUT_OF_RANGE"
    assert "test_checks.py:" in violation.place


def test_a_check_tells_the_cost(model):
    t = model.trace([1, 2, 3])
    t.save(x=t.layers[0].resid_post)
    report = t.check()
    assert report.violations == ()
    assert (report.estimate.n_tokens, report.estimate.n_layers_run, report.estimate.bytes_returned) == (3, 1, 96)


def test_a_position_that_the_prompt_lacks_has_its_own_class(model):
    with pytest.raises(interpd.PositionOutOfRange, match=r"test_checks.py:\d+"), model.trace([1, 2]) as t:
        t.save(x=t.layers[0].resid_post[:, 5])


def test_a_limit_has_its_own_class(transport, client):
    from dataclasses import replace

    transport.manifests["fake"] = replace(transport.manifests["fake"], limits=Limits(n_nodes=1))
    with pytest.raises(interpd.LimitExceeded, match="2 nodes, at most 1"), client.model("fake").trace("a") as t:
        t.save(x=t.embed + 1)


def test_an_explanation_ends_each_node_with_the_users_line(model):
    t = model.trace([1, 2])
    t.save(top=t.logits[:, -1].topk(2))
    text = t.explain()
    nodes = [line for line in text.splitlines() if line.lstrip().startswith("%")]
    assert len(nodes) == 3
    assert len({line.rpartition("  # test_checks.py:")[2] for line in nodes}) == 1
    assert "torch.topk(%1, k=2) -> float32[batch=1 2], int64[batch=1 2]" in text


def test_an_explanation_of_what_cannot_run_gives_the_reasons(model):
    t = model.trace("a")
    t.save(x=t.embed.softmax(7))
    assert re.match(r"problem: test_checks.py:\d+: t.save\(x=t.embed.softmax\(7\)\)\n    node 'x' .*dim 7", t.explain())


def test_the_type_of_an_impossible_value_is_an_error_at_its_line(model):
    t = model.trace("a")
    with pytest.raises(interpd.InvalidGraph, match=r"test_checks.py:\d+: t.embed.softmax\(7\).type"):
        t.embed.softmax(7).type  # noqa: B018
