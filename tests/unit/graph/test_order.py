from interpd.graph.ir import Generation, Node, Ref, Steps
from interpd.graph.order import AFTER, BEFORE, plan_order


def _order(manifest, name):
    return manifest.sites[name].order


def test_a_pure_value_is_ready_with_the_latest_of_its_inputs(manifest, ask, read):
    nodes = [read("layers.0.resid_post"), read("layers.1.resid_post"), Node("torch.add", (Ref(0), Ref(1)))]
    plan = plan_order(ask(*nodes, outputs={"x": 2}), manifest)
    assert plan.nodes[2].ready == plan.nodes[1].ready == (0, 0, _order(manifest, "layers.1.resid_post"))
    assert plan.invokes[0].last_layer == 1
    assert plan.invokes[0].reads == (0, 1)


def test_constants_weights_and_token_ids_come_before_any_pass(manifest, ask):
    nodes = [Node("torch.zeros", (), {"size": 3}), Node("param.read", (), {"name": "wte.weight"}), Node("tokens.ids")]
    plan = plan_order(ask(*nodes, outputs={"x": 0}), manifest)
    assert {node.order for node in plan.nodes} == {BEFORE}
    assert plan.invokes[0].last_order == BEFORE


def test_a_late_value_written_early_needs_a_later_pass_for_the_other_prompt(manifest, ask, read, write):
    nodes = [read("layers.1.resid_post", 0), write(0, "layers.0.resid_pre", 1), read("logits", 1)]
    plan = plan_order(ask(*nodes, outputs={"x": 2}, prompts=2), manifest)
    assert [invoke.pass_index for invoke in plan.invokes] == [0, 1]
    assert plan.n_passes == 2
    assert plan.conflicts == ()
    assert [node.pass_index for node in plan.nodes] == [0, 1, 1]
    assert plan.nodes[1].order < plan.nodes[2].order


def test_patching_forward_shares_the_pass(manifest, ask, read, write):
    nodes = [read("layers.0.resid_post", 0), write(0, "layers.0.resid_post", 1), read("logits", 1)]
    assert plan_order(ask(*nodes, outputs={"x": 2}, prompts=2), manifest).n_passes == 1


def test_a_chain_of_prompts_takes_as_many_passes(manifest, ask, read, write):
    nodes = [read("layers.1.resid_post", 3)]
    for invoke in (2, 1, 0):
        nodes += [write(len(nodes) - 1, "layers.0.resid_pre", invoke), read("layers.1.resid_post", invoke)]
    plan = plan_order(ask(*nodes, outputs={"x": 6}, prompts=4), manifest)
    assert [invoke.pass_index for invoke in plan.invokes] == [3, 2, 1, 0]


def test_a_backward_write_in_one_prompt_says_what_to_do(manifest, ask, read, write):
    nodes = [read("layers.1.resid_post", label="late"), write(0, "layers.0.mlp.out"), read("logits")]
    (conflict,) = plan_order(ask(*nodes, outputs={"x": 2}), manifest).conflicts
    assert (conflict.code, conflict.path) == ("SITE_ORDER", "graph.nodes[1]")
    assert conflict.message == (
        "write at 'layers.0.mlp.out' uses node 'late', read at 'layers.1.resid_post': a pass runs forward, "
        "so split this into two passes (give the prompt twice)"
    )


def test_two_prompts_that_wait_for_each_other_are_both_named(manifest, ask, read, write):
    nodes = [
        *(read("layers.1.resid_post", 0, label="a"), read("layers.1.resid_post", 1, label="b")),
        *(write(0, "layers.0.resid_pre", 1), write(1, "layers.0.resid_post", 0)),
    ]
    (conflict,) = plan_order(ask(*nodes, prompts=2), manifest).conflicts
    assert conflict.message.startswith(
        "prompts[0] and prompts[1] wait for each other, so no sequence of passes exists: "
    )
    assert "write at 'layers.0.resid_pre' in prompts[1] uses node 'a'" in conflict.message
    assert "write at 'layers.0.resid_post' in prompts[0] uses node 'b'" in conflict.message


def test_prompts_may_exchange_values_forwards_in_one_pass(manifest, ask, read, write):
    nodes = [
        *(read("layers.0.resid_pre", 0), write(0, "layers.0.resid_post", 1)),
        *(read("layers.1.resid_pre", 1), write(2, "layers.1.resid_post", 0), read("logits", 0)),
    ]
    plan = plan_order(ask(*nodes, outputs={"x": 4}, prompts=2), manifest)
    assert (plan.n_passes, plan.conflicts) == (1, ())


def test_gradients_come_after_the_pass_in_stages(manifest, ask, read):
    nodes = [read(), read("logits"), Node("torch.sum", (Ref(1),)), Node("site.grad", (Ref(2), Ref(0)))]
    nodes += [Node("torch.neg", (Ref(3),))]
    plan = plan_order(ask(*nodes, outputs={"x": 4}), manifest)
    assert plan.needs_grad
    assert [(node.order == AFTER, node.stage) for node in plan.nodes[2:]] == [(False, 0), (True, 1), (True, 1)]


def test_a_method_runs_after_the_pass_of_its_prompt(manifest, ask, read):
    nodes = [Node("torch.zeros", (), {"size": 8}), Node("probe.score", (Ref(0),)), Node("probe.score", (Ref(1),))]
    plan = plan_order(ask(*nodes, outputs={"x": 2}), manifest)
    assert [(node.order == AFTER, node.stage) for node in plan.nodes] == [(False, 0), (True, 1), (True, 2)]


def test_bad_nodes_are_taken_for_constants(manifest, ask, read):
    nodes = [Node("site.read", (), {"site": "nowhere"}), Node("torch.exp", (Ref(5),)), Node("torch.exp", (Ref(1),))]
    assert plan_order(ask(*nodes), manifest, skip={0, 1}).nodes[2].order == BEFORE


def test_steps_are_inherited_and_clipped(manifest, ask, read):
    nodes = [read(), Node("torch.exp", (Ref(0),)), read(steps=Steps(1, 2)), Node("torch.add", (Ref(2), 1))]
    plan = plan_order(ask(*nodes, generation=Generation(3)), manifest)
    assert [(node.steps, node.stacked) for node in plan.nodes] == [
        *([(Steps(0, 3), True)] * 2),
        *([(Steps(1, 2), False)] * 2),
    ]
    assert plan.invokes[0].last_order == AFTER


def test_a_value_made_at_one_step_serves_later_steps(manifest, ask, read, write):
    nodes = [read("logits", steps=Steps(0, 1)), write(0, "layers.0.resid_pre", steps=Steps(1))]
    assert plan_order(ask(*nodes, generation=Generation(3)), manifest).conflicts == ()


def test_a_value_made_at_a_later_step_is_too_late(manifest, ask, read, write):
    nodes = [read("embed", steps=Steps(2, 3)), write(0, "layers.0.resid_pre", steps=Steps(1))]
    (conflict,) = plan_order(ask(*nodes, generation=Generation(3)), manifest).conflicts
    assert conflict.message == (
        "write at 'layers.0.resid_pre' uses nodes[0], read at 'embed' at step 2: a generation runs forward, "
        "so write at step 2 or later"
    )


def test_values_of_different_steps_do_not_mix(manifest, ask, read, write):
    nodes = [read(steps=Steps(0, 2)), read(steps=Steps(1, 3)), Node("torch.add", (Ref(0), Ref(1)))]
    (conflict,) = plan_order(ask(*nodes, generation=Generation(4)), manifest).conflicts
    assert conflict.code == "BAD_STEPS"
    nodes = [read("embed", steps=Steps(0, 3)), write(0, steps=Steps(0, 2))]
    (conflict,) = plan_order(ask(*nodes, generation=Generation(4)), manifest).conflicts
    assert conflict.message == "write at steps 0..1 uses a value of steps 0..2: give both the same steps"


def test_a_late_value_of_a_generation_steers_a_later_generation(manifest, ask, read, write):
    nodes = [read("logits", 0, Steps(0, 1)), write(0, "layers.0.resid_pre", 1)]
    plan = plan_order(ask(*nodes, prompts=2, generation=Generation(3)), manifest)
    assert [invoke.pass_index for invoke in plan.invokes] == [0, 1]
