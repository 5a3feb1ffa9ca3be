"""Gradients, generations and methods in the checker."""

from dataclasses import replace

import pytest

from interpd.errors import FeatureUnsupported
from interpd.graph.check import check
from interpd.graph.ir import Generation, Node, Ref, Slice, Steps


def _sum(source):
    return Node("torch.sum", (Ref(source),))


def _grad(target, wrt):
    return Node("site.grad", (Ref(target), Ref(wrt)))


def test_a_gradient_has_the_type_of_what_was_read(manifest, ask, read):
    report = check(ask(read(), read("logits"), _sum(1), _grad(2, 0), outputs={"g": 3}), manifest, [7])
    assert report.violations == ()
    assert str(report.types[3][0]) == "float32[batch=1 pos=7 d_model=8]"


def test_a_gradient_needs_one_floating_number(found, ask, read):
    request = ask(read(), read("logits"), _grad(1, 0), outputs={"g": 2})
    assert found(request, [7]) == [("BAD_TARGET", "graph.nodes[2].inputs[0]")]
    whole = ask(read(), read("logits"), Node("torch.argmax", (Ref(1),)), _grad(2, 0), outputs={"g": 3})
    assert found(whole, [7]) == [("BAD_TARGET", "graph.nodes[3].inputs[0]")]


def test_a_gradient_is_taken_with_respect_to_a_read(found, ask, read):
    request = ask(read(), Node("torch.exp", (Ref(0),)), _sum(1), _grad(2, 1), outputs={"g": 3})
    assert found(request) == [("BAD_TARGET", "graph.nodes[3].inputs[1]")]


@pytest.mark.parametrize("cut", [Node("tensor.detach", (Ref(1),)), Node("tensor.to", (Ref(1),), {"dtype": "int64"})])
def test_a_target_that_does_not_reach_the_read_is_refused(found, ask, read, cut):
    back = Node("tensor.to", (Ref(2),), {"dtype": "float32"})
    request = ask(read(), read("logits"), cut, back, _sum(3), _grad(4, 0), outputs={"g": 5})
    assert found(request) == [("BAD_TARGET", "graph.nodes[5].inputs[0]")]


def test_a_gradient_by_a_read_that_is_wrong_is_the_fault_of_the_read(manifest, ask, read):
    # its type is known, and so is that of the gradient
    apart = replace(manifest.sites["embed"], name="model.table.output", shares_pass=False)
    with_raw = replace(manifest, sites={**manifest.sites, apart.name: apart})
    nodes = [read(), read(apart.name), read("logits"), _sum(2), _grad(3, 1), _grad(3, 0), read("embed", 1)]
    report = check(ask(*nodes, outputs={"g": 4, "h": 5, "e": 6}, prompts=2), with_raw, [7, 7])
    assert [(one.code, one.path) for one in report.violations] == [("UNSUPPORTED", "graph.nodes[1].params.site")]


def test_a_target_read_before_the_value_is_refused(found, ask, read):
    request = ask(read("logits"), read("embed"), _sum(1), _grad(2, 0), outputs={"g": 3})
    assert found(request) == [("BAD_TARGET", "graph.nodes[3].inputs[0]")]


def test_a_forecast_says_that_it_leaves_out_what_methods_run(manifest, ask):
    direction = Node("torch.zeros", (), {"size": 8})
    report = check(ask(direction, Node("probe.score", (Ref(0),)), outputs={"s": 1}), manifest)
    assert str(report.estimate) == ("the passes of probe.score, which are not known before, 12 bytes returned")


def test_second_derivatives_are_refused_by_name(manifest, ask, read):
    request = ask(read(), read("logits"), _sum(1), _grad(2, 0), _sum(3), _grad(4, 0), outputs={"g": 5})
    (violation,) = check(request, manifest).violations
    assert violation.message.endswith("comes from the gradient nodes[3], and second derivatives are not computed")


def test_gradients_flow_through_writes_into_other_prompts(found, ask, read, write):
    nodes = [read("embed", 0), write(0, "layers.0.resid_pre", 1), read("logits", 1), _sum(2), _grad(3, 0)]
    assert found(ask(*nodes, outputs={"g": 4}, prompts=2)) == []
    nodes[1] = write(Ref(5), "layers.0.resid_pre", 1)
    nodes = [
        read("embed", 0),
        read("embed", 1),
        write(1, "layers.0.resid_pre", 1),
        read("logits", 1),
        _sum(3),
        _grad(4, 0),
    ]
    assert found(ask(*nodes, outputs={"g": 5}, prompts=2)) == [("BAD_TARGET", "graph.nodes[5].inputs[0]")]


def test_a_write_may_not_use_a_gradient_of_its_own_pass(found, ask, read, write):
    nodes = [read(), read("logits"), _sum(1), _grad(2, 0), write(3, "layers.1.resid_pre"), read("logits")]
    assert found(ask(*nodes, outputs={"x": 5})) == [("SITE_ORDER", "graph.nodes[4]")]
    nodes[4], nodes[5] = write(3, "layers.1.resid_pre", 1), read("logits", 1)
    assert found(ask(*nodes, outputs={"x": 5}, prompts=2)) == []


def test_gradients_and_methods_do_not_run_in_generations(manifest, ask, read):
    request = ask(read(), read("logits"), _sum(1), _grad(2, 0), outputs={"g": 3}, generation=Generation(2))
    with pytest.raises(FeatureUnsupported, match="gradients do not run in a generation"):
        check(request, manifest).raise_if_bad()
    direction = Node("torch.zeros", (), {"size": (8,)})
    method = ask(direction, Node("probe.score", (Ref(0),)), outputs={"s": 1}, generation=Generation(2))
    with pytest.raises(FeatureUnsupported, match=r"methods \(probe.score\) do not run in a generation"):
        check(method, manifest).raise_if_bad()


def test_a_method_gives_writes_an_effect_and_sizes_by_its_params(manifest, ask, write):
    direction = Node("torch.zeros", (), {"size": (8,)})
    request = ask(direction, write(0), Node("probe.score", (Ref(0),), {"n": 5}), outputs={"s": 2})
    report = check(request, manifest, [7])
    assert report.violations == ()
    assert str(report.types[2][0]) == "float32[n=5]"


def test_values_of_all_steps_stack_when_their_shape_stays(manifest, ask, read):
    last = Node("tensor.getitem", (Ref(0), (0, -1)))
    report = check(ask(read("logits"), last, outputs={"l": 1}, generation=Generation(3, ignore_eos=True)), manifest)
    assert report.violations == ()
    assert [str(kind) for _, kind in report.outputs] == ["float32[step=3 d_vocab=50]"]
    open_end = check(ask(read("logits"), last, outputs={"l": 1}, generation=Generation(3)), manifest)
    assert [str(kind) for _, kind in open_end.outputs] == ["float32[step=? d_vocab=50]"]


def test_values_whose_shape_changes_between_steps_do_not_stack(manifest, ask, read):
    (violation,) = check(ask(read("logits"), outputs={"l": 0}, generation=Generation(3)), manifest, [7]).violations
    assert (violation.code, violation.path) == ("BAD_STEPS", "graph.outputs['l']")
    assert violation.message == (
        "nodes[0] changes from float32[batch=1 pos=7 d_vocab=50] to float32[batch=1 pos=1 d_vocab=50], "
        "so its steps do not stack: choose positions first, as [-1]"
    )


def test_patterns_grow_with_every_step(found, ask, read):
    request = ask(read("layers.0.attn.pattern", steps=Steps(1)), outputs={"p": 0}, generation=Generation(3))
    assert found(request, [7]) == [("BAD_STEPS", "graph.outputs['p']")]


def test_the_prompt_step_alone_keeps_all_positions(manifest, ask, read):
    request = ask(read(steps=Steps(0, 1)), outputs={"h": 0}, generation=Generation(3))
    report = check(request, manifest, [7])
    assert [str(kind) for _, kind in report.outputs] == ["float32[batch=1 pos=7 d_model=8]"]


def test_an_index_must_exist_at_every_step(found, ask, read):
    third = Node("tensor.getitem", (Ref(0), (0, 2)))
    request = ask(read("logits"), third, outputs={"l": 1}, generation=Generation(3))
    assert found(request, [7]) == [("POSITION_OUT_OF_RANGE", "graph.nodes[1].inputs[1][1]")]


def test_steps_that_are_never_reached_are_refused(found, ask, read):
    request = ask(read(steps=Steps(3)), outputs={"h": 0}, generation=Generation(3))
    assert found(request) == [("BAD_STEPS", "graph.nodes[0].steps")]


def test_values_of_every_step_do_not_cross_prompts_that_may_end_early(found, ask, read):
    nodes = [
        read("logits", 0, positions=(-1,)),
        read("logits", 1, positions=(-1,)),
        Node("torch.sub", (Ref(0), Ref(1))),
    ]
    request = ask(*nodes, outputs={"d": 2}, prompts=2, generation=Generation(3))
    assert found(request) == [("BAD_STEPS", "graph.nodes[2]")]
    request = ask(*nodes, outputs={"d": 2}, prompts=2, generation=Generation(3, ignore_eos=True))
    assert found(request) == []


def test_one_step_of_a_prompt_may_steer_every_step_of_another(found, ask, read, write):
    value = Node("tensor.getitem", (Ref(0), (0, -1)))
    nodes = [read("layers.0.resid_post", 0, Steps(0, 1)), value, write(1, "layers.0.resid_post", 1)]
    assert found(ask(*nodes, prompts=2, generation=Generation(3)), [7, 5]) == []


def test_slices_of_the_last_position_stack(found, ask, read):
    last = Node("tensor.getitem", (Ref(0), (0, Slice(-1))))
    assert found(ask(read("logits"), last, outputs={"l": 1}, generation=Generation(3))) == []
