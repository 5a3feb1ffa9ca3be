from dataclasses import replace

import pytest

from interpd.errors import AdapterNotFound, ArtifactNotFound, InvalidGraph, LimitExceeded, PositionOutOfRange
from interpd.graph.check import check
from interpd.graph.ir import Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import RunRequest
from interpd.graph.schema import AdapterInfo, OpSchema, ParamSchema, PortSchema
from interpd.graph.types import TensorData, TensorType


def test_a_sound_graph_has_types_a_plan_and_an_estimate(manifest, ask, read):
    last = Node("tensor.getitem", (Ref(0), (Slice(), -1)))
    report = check(
        ask(read("logits"), last, Node("torch.softmax", (Ref(1),), {"dim": -1}), outputs={"p": 2}), manifest, [7]
    )
    assert report.violations == ()
    assert str(report.types[0][0]) == "float32[batch=1 pos=7 d_vocab=50]"
    assert [(name, str(kind)) for name, kind in report.outputs] == [("p", "float32[batch=1 d_vocab=50]")]
    assert (report.estimate.n_tokens, report.estimate.n_layers_run, report.estimate.n_passes) == (7, 2, 1)
    assert report.estimate.bytes_returned == 200


def test_sizes_stay_open_until_the_prompt_is_tokenised(manifest, ask, read):
    report = check(ask(read(), outputs={"h": 0}), manifest)
    assert str(report.types[0][0]) == "float32[batch=1 pos=? d_model=8]"
    assert report.estimate.bytes_returned is None
    assert report.estimate.n_tokens is None


def test_every_violation_is_reported_at_once_and_none_twice(found, ask, read, write):
    request = ask(
        read("layers.0.resid_pst"),
        Node("torch.sofmax", (Ref(0),), {"dim": -1}),
        Node("torch.add", (Ref(1), 1)),
        write(2),
        read("layers.1.resid_post"),
        Node("torch.softmax", (Ref(4),), {"dims": -1}),
        outputs={"x": 5, "y": 99},
    )
    assert found(request) == [
        ("UNKNOWN_OP", "graph.nodes[1].op"),
        ("BAD_PARAM", "graph.nodes[5].params.dims"),
        ("BAD_PARAM", "graph.nodes[5].params.dim"),
        ("UNKNOWN_SITE", "graph.nodes[0].params.site"),
        ("DANGLING_REFERENCE", "graph.outputs['y']"),
    ]


ONE_NODE = {
    "UNKNOWN_OP": (
        Node("torch.sofmax"),
        "op",
        "operation 'torch.sofmax' does not exist; did you mean 'torch.softmax'?",
    ),
    "OP_VERSION": (Node("torch.exp", (), {}, 2), "version", "wants torch.exp@2, this worker has torch.exp@1"),
    "UNKNOWN_SITE": (
        Node("site.read", (), {"site": "layers.0.resid_pst"}),
        "params.site",
        "site 'layers.0.resid_pst' does not exist; did you mean 'layers.0.resid_post'?",
    ),
    "ABSENT_SITE": (
        Node("site.read", (), {"site": "layers.0.attn.scores"}),
        "params.site",
        "model 'tiny' has no site 'layers.0.attn.scores': this attention does not compute them",
    ),
    "UNKNOWN_PARAMETER": (
        Node("param.read", (), {"name": "wte.wight"}),
        "params.name",
        "parameter 'wte.wight' does not exist; did you mean 'wte.weight'?",
    ),
    "BAD_PARAM": (
        Node("torch.zeros", (), {"size": "three"}),
        "params.size",
        "param 'size' wants an integer or a tuple of integers, got 'three'",
    ),
    "BAD_STEPS": (
        Node("site.read", (), {"site": "logits"}, steps=Steps(0, 1)),
        "steps",
        "steps are those of a generation, and this request does not generate",
    ),
    "PORT_MISMATCH": (Node("torch.exp", (3,)), "inputs[0]", "port 'input' wants a value, got 3"),
    "BAD_PROMPT": (
        Node("site.read", (), {"site": "logits"}, invoke=4),
        "invoke",
        "prompt 4 does not exist, there are 1",
    ),
    "DANGLING_REFERENCE": (Node("torch.exp", (Ref(7),)), "inputs[0]", "node 7 does not exist, there are 1"),
    "CYCLE": (Node("torch.exp", (Ref(0),)), "inputs[0]", "nodes[0] depend on themselves: no order exists"),
    "POSITION_OUT_OF_RANGE": (
        Node("site.read", (), {"site": "logits", "positions": (-8,)}),
        "params.positions",
        "nodes[0] (site.read@1): param 'positions' position -8 is out of range for pos=7 of "
        "float32[batch=1 pos=7 d_vocab=50], allowed: -7..6",
    ),
}


@pytest.mark.parametrize("code", ONE_NODE)
def test_a_violation_says_what_where_and_what_to_do(manifest, ask, code):
    node, where, message = ONE_NODE[code]
    (violation,) = check(ask(node, outputs={"x": 0}), manifest, [7]).violations
    assert (violation.code, violation.path, violation.message) == (code, f"graph.nodes[0].{where}", message)


def test_a_node_that_depends_on_a_bad_node_is_not_reported(found, ask, read):
    nodes = [read("nowhere"), *(Node("torch.matmul", (Ref(i), Ref(i))) for i in range(4))]
    assert found(ask(*nodes, outputs={"x": 4})) == [("UNKNOWN_SITE", "graph.nodes[0].params.site")]


def test_a_forward_reference_is_told_from_a_cycle(found, ask, read):
    forward = ask(Node("torch.exp", (Ref(1),)), read(), outputs={"x": 0})
    assert found(forward) == [("FORWARD_REFERENCE", "graph.nodes[0].inputs[0]")]
    cycle = ask(
        Node("torch.add", (1, Ref(2))), Node("torch.exp", (Ref(0),)), Node("torch.exp", (Ref(1),)), outputs={"x": 2}
    )
    assert found(cycle) == [("CYCLE", "graph.nodes[0].inputs[1]")]


def test_a_long_cycle_needs_no_recursion(found, ask):
    n = 5000
    nodes = [Node("torch.exp", (Ref((i + 1) % n),)) for i in range(n)]
    assert found(ask(*nodes, outputs={"x": 0})) == [("CYCLE", "graph.nodes[0].inputs[0]")]


def test_a_write_of_a_wrong_shape_or_dtype_is_refused(found, ask, read, write):
    wide = Node("torch.zeros", (), {"size": (9,)})
    assert found(ask(wide, write(0), read("logits"), outputs={"x": 2})) == [
        ("PORT_MISMATCH", "graph.nodes[1].inputs[0]")
    ]
    whole = Node("torch.zeros", (), {"size": (8,), "dtype": "int64"})
    assert found(ask(whole, write(0), read("logits"), outputs={"x": 2})) == [
        ("PORT_MISMATCH", "graph.nodes[1].inputs[0]")
    ]
    fitting = Node("torch.zeros", (), {"size": (8,)})
    assert found(ask(fitting, write(0), read("logits"), outputs={"x": 2})) == []


def test_a_site_that_is_not_writable_says_so(found, ask, read, write):
    request = ask(read("embed"), write(0, "embed"), read("logits"), outputs={"x": 2})
    assert found(request) == [("NOT_WRITABLE", "graph.nodes[1].params.site")]


def test_constant_indices_are_compared_with_the_tokens_once_known(found, ask, read):
    request = ask(read(), Node("tensor.getitem", (Ref(0), (0, 9))), outputs={"x": 1})
    assert found(request) == []
    assert found(request, [7]) == [("POSITION_OUT_OF_RANGE", "graph.nodes[1].inputs[1][1]")]


def test_only_positions_out_of_range_raise_their_own_class(manifest, ask, read):
    request = ask(read(), Node("tensor.getitem", (Ref(0), (0, 9))), outputs={"x": 1})
    with pytest.raises(PositionOutOfRange, match=r"graph.nodes\[1\]"):
        check(request, manifest, [7]).raise_if_bad()
    mixed = ask(read(), Node("tensor.getitem", (Ref(0), (0, 9))), Node("torch.nope"), outputs={"x": 1})
    with pytest.raises(InvalidGraph) as error:
        check(mixed, manifest, [7]).raise_if_bad()
    assert [violation.code for violation in error.value.violations] == ["UNKNOWN_OP", "POSITION_OUT_OF_RANGE"]


def test_unused_nodes_are_refused_at_the_end_of_their_chain(found, ask, read):
    nodes = [read(), Node("torch.exp", (Ref(0),)), Node("torch.log", (Ref(1),)), read("logits")]
    assert found(ask(*nodes, outputs={"x": 3})) == [("UNUSED_NODE", "graph.nodes[2]")]


def test_a_write_after_which_nothing_is_read_is_refused(found, ask, read, write):
    request = ask(read("embed"), write(0, "layers.1.resid_post"), outputs={"x": 0})
    assert found(request) == [("UNUSED_NODE", "graph.nodes[1]")]


def test_a_graph_that_returns_nothing_is_refused_unless_it_generates(found, ask, read, write):
    assert found(ask(read())) == [("BAD_OUTPUT", "graph.outputs"), ("UNUSED_NODE", "graph.nodes[0]")]
    assert found(ask(read("embed"), write(0), generation=Generation(2)), [3]) == []


def test_a_write_has_no_output(found, ask, read, write):
    request = ask(read("embed"), write(0), read("logits"), outputs={"w": 1, "x": 2})
    assert found(request) == [("BAD_OUTPUT", "graph.outputs['w']")]


def test_oversized_graphs_are_refused_before_anything_else(found, ask):
    request = ask(*(Node("no.such.op") for _ in range(10_001)), outputs={"x": 0})
    assert found(request) == [("LIMIT", "graph.nodes")]


def test_deep_nesting_is_refused_without_recursion(found, ask, read):
    index = 0
    for _ in range(5000):
        index = (index,)
    assert found(ask(read(), Node("tensor.getitem", (Ref(0), index)), outputs={"x": 1})) == [
        ("LIMIT", "graph.nodes[1]")
    ]


def test_inline_constants_count_against_their_limit(found, ask):
    big = TensorData("uint8", (5 << 20,), bytes(5 << 20))
    assert found(ask(Node("tensor.to", (big,), {"dtype": "int64"}), outputs={"x": 0})) == [("LIMIT", "graph.nodes")]


def test_huge_values_are_refused_before_they_are_made(manifest, ask):
    report = check(ask(Node("torch.zeros", (), {"size": (20_000, 20_000)}), outputs={"x": 0}), manifest)
    assert [violation.code for violation in report.violations] == ["LIMIT"]
    with pytest.raises(LimitExceeded, match="choose positions or reduce before saving"):
        report.raise_if_bad()


@pytest.mark.parametrize("size", [(1, 4), (0, 4)], ids=["some", "none"])
def test_sizes_that_grow_and_grow_are_refused_at_the_first_value_that_nothing_holds(manifest, ask, size):
    doubled = (Node("torch.repeat_interleave", (Ref(i),), {"repeats": 1 << 30, "dim": 1}) for i in range(9_999))
    report = check(ask(Node("torch.zeros", (), {"size": size}), *doubled, outputs={"x": 9_999}), manifest)
    (violation,) = report.violations
    assert violation.code == "LIMIT"
    assert int(violation.path[len("graph.nodes[") : -1]) < 4
    assert len(violation.message) < 300


def test_a_blob_has_the_type_that_it_declares(manifest, ask):
    blob = Blob("0" * 64, "float16", (3, 4))
    report = check(ask(Node("torch.sum", (blob,), {"dim": 0}), outputs={"x": 0}), manifest)
    assert str(report.types[0][0]) == "float16[4]"


def test_plugin_ports_unify_with_the_artifact(manifest, ask, read):
    good = check(ask(read(), Node("sae.encode", (Ref(0),), {"sae": "sae_8"}), outputs={"x": 1}), manifest, [7])
    assert str(good.types[1][0]) == "float32[batch=1 pos=7 d_sae=32]"
    bad = ask(read(label="acts"), Node("sae.encode", (Ref(0),), {"sae": "sae_16"}, label="feat"), outputs={"x": 1})
    (violation,) = check(bad, manifest, [7]).violations
    assert violation.message == (
        "node 'feat' (sae.encode@1): port 'resid' wants float[batch pos d_model=16], "
        "got float32[batch=1 pos=7 d_model=8] from node 'acts'"
    )


def test_values_of_another_dtype_than_the_artifacts_are_refused_for_plugin_ports(manifest, ask, read):
    constant = TensorData("float64", (1, 2, 8), bytes(128))
    (violation,) = check(ask(Node("sae.encode", (constant,), {"sae": "sae_8"}), outputs={"x": 0}), manifest).violations
    assert violation.code == "PORT_MISMATCH"
    assert "is float64[1 2 8], but artifact 'sae' is float32: cast one, for instance .to('float32')" in str(violation)
    cast = Node("tensor.to", (Ref(0),), {"dtype": "bfloat16"})
    request = ask(read(), cast, Node("sae.encode", (Ref(1),), {"sae": "sae_8"}), outputs={"x": 2})
    assert [violation.code for violation in check(request, manifest).violations] == ["PORT_MISMATCH"]


def test_an_unknown_artifact_raises_its_own_class(manifest, ask, read):
    request = ask(read(), Node("sae.encode", (Ref(0),), {"sae": "sae_9"}), outputs={"x": 1})
    with pytest.raises(ArtifactNotFound, match="artifact 'sae_9' does not exist; did you mean 'sae_8'"):
        check(request, manifest).raise_if_bad()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frensh", "no adapter 'frensh'; did you mean 'french'"),
        ("zzz", r"no adapter 'zzz'; it has 'french' \["),
        ("odd", "adapter 'odd' was not loaded: of another model"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_a_violation(manifest, ask, read, name, message):
    known = {"french": AdapterInfo("french", "/a"), "odd": AdapterInfo("odd", "/b", problem="of another model")}
    manifest = replace(manifest, adapters=known)
    request = replace(ask(read(), outputs={"x": 0}), adapter=name)
    with pytest.raises(AdapterNotFound, match=message):
        check(request, manifest).raise_if_bad()
    assert not check(replace(request, adapter="french"), manifest).violations


def test_modules_apply_to_any_value_of_their_width(manifest, ask, read):
    lens = ask(read(), Node("module.call", (Ref(0),), {"module": "ln_f"}), outputs={"x": 1})
    assert str(check(lens, manifest, [7]).types[1][0]) == "float32[batch=1 pos=7 d_model=8]"
    wrong = ask(read("logits"), Node("module.call", (Ref(0),), {"module": "ln_f"}), outputs={"x": 1})
    assert [v.code for v in check(wrong, manifest).violations] == ["PORT_MISMATCH"]
    table = ask(read(), Node("module.call", (Ref(0),), {"module": "wte"}), outputs={"x": 1})
    assert [v.code for v in check(table, manifest).violations] == ["UNSUPPORTED"]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt(text="a", token_ids=(1,)),
        Prompt(messages=(("user", "hi"),)),
        Prompt(token_ids=(50,)),
        Prompt(token_ids=()),
        Prompt(text="a", continue_final_message=True),
    ],
    ids=["nothing", "two forms", "no chat template", "beyond the vocabulary", "no tokens", "no last message"],
)
def test_prompts_are_exactly_one_thing_that_the_model_can_take(found, ask, read, prompt):
    assert found(ask(read(), outputs={"x": 0}, prompts=(prompt,))) == [("BAD_PROMPT", "prompts[0]")]


def test_prompts_longer_than_the_model_are_refused(found, ask, read):
    assert found(ask(read(), outputs={"x": 0}), [65]) == [("LIMIT", "prompts[0]")]
    generate = ask(generation=Generation(60))
    assert found(generate, [5]) == []
    assert found(generate, [6]) == [("LIMIT", "prompts[0]")]


def test_a_generation_that_is_too_long_is_told_with_the_tokens_that_were_asked_for(ask, manifest):
    (violation,) = check(ask(generation=Generation(500)), manifest, [5]).violations
    assert violation.message.startswith("5 tokens and 500 to be generated, all but the last of which need a position")
    assert violation.message.endswith(": 504 positions, the model takes at most 64 positions")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0, "do_sample": True}, "temperature"),
        ({"temperature": 0.5}, "temperature"),
        ({"top_p": 0.0, "do_sample": True}, "top_p"),
        ({"top_k": -1, "do_sample": True}, "top_k"),
        ({"seed": -1, "do_sample": True}, "seed"),
        ({"seeds": (-1,), "do_sample": True}, "seeds"),
        ({"seeds": (1, 2), "do_sample": True}, "seeds"),
        ({"seeds": (1,), "seed": 1, "do_sample": True}, "seeds"),
        ({"stop_strings": ("",)}, "stop_strings"),
        ({"stop_token_ids": (99,)}, "stop_token_ids"),
    ],
)
def test_generation_options_that_mean_nothing_are_refused(found, ask, options, name):
    assert found(ask(generation=Generation(**{"max_new_tokens": 3, **options}))) == [
        ("BAD_GENERATION", f"generation.{name}")
    ]


def test_a_prompt_that_nobody_uses_is_noted(manifest, ask, read):
    assert check(ask(read(), outputs={"x": 0}, prompts=2), manifest).notes == ("prompts[1] is used by no node",)


def test_ten_thousand_violations_make_a_short_report(manifest):
    nodes = tuple(Node(f"no.op{i}") for i in range(10_000))
    report = check(RunRequest("r", "tiny", (Prompt(text="x"),), Graph(nodes, {"x": Ref(0)})), manifest)
    assert len(report.violations) == 200
    assert report.notes == ("9800 more violations are not listed",)


def test_a_request_without_prompts_is_refused_whatever_its_nodes(found, ask, read):
    assert found(ask(read(), outputs={"x": 0}, prompts=0)) == [("BAD_PROMPT", "prompts")]


def test_values_have_few_enough_dimensions_for_the_client(found, ask, read):
    nodes = [read(), *(Node("torch.unsqueeze", (Ref(i),), {"dim": 0}) for i in range(40))]
    assert found(ask(*nodes, outputs={"x": 40})) == [("LIMIT", "graph.nodes[30]")]


def test_a_mismatch_inside_a_tuple_names_its_source(manifest, ask, read):
    nodes = [read(), read("logits", label="wide"), Node("torch.cat", ((Ref(0), Ref(1)),), {"dim": 1})]
    (violation,) = check(ask(*nodes, outputs={"x": 2}), manifest, [7]).violations
    assert (violation.code, violation.path) == ("PORT_MISMATCH", "graph.nodes[2].inputs[0][1]")
    assert violation.message.endswith("float32[batch=1 pos=7 d_model=8] along dim 1 from node 'wide'")


def test_a_plugin_that_wants_a_tuple_gets_no_single_integer(manifest, ask):
    schema = OpSchema(
        "p.pick", 1, "", (), (ParamSchema("at", "ints"),), (PortSchema("out", TensorType("float32")),), "p"
    )
    offered = replace(manifest, ops={**manifest.ops, "p.pick": schema})
    bad = check(ask(Node("p.pick", (), {"at": 3}), outputs={"x": 0}), offered)
    assert [violation.message for violation in bad.violations] == ["param 'at' wants a tuple of integers, got 3"]
    assert check(ask(Node("p.pick", (), {"at": (3,)}), outputs={"x": 0}), offered).violations == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": (Prompt(text="x" * 600_000),)}, "600000 characters in all, at most 524288 are tokenised"),
        ({"prompts": (Prompt(messages=(("user", "x" * 600_000),)),)}, "600005 characters in all"),
        ({"prompts": (Prompt(text="x"),) * 513}, "513 prompts, at most 512 are allowed"),
        ({"prompts": (Prompt(token_ids=(1,) * 9_000),)}, "9000 positions in all, at most 8192"),
        ({"generation": Generation(max_new_tokens=1, stop_strings=("x",) * 257)}, "257 stop strings, at most 256"),
        ({"generation": Generation(max_new_tokens=1, stop_token_ids=(1,) * 257)}, "257 stop tokens, at most 256"),
    ],
)
def test_what_would_keep_the_worker_busy_for_nothing_is_refused_by_its_size(manifest, ask, read, fields, message):
    report = check(replace(ask(read(), outputs={"h": 0}), **fields), manifest)
    assert [violation.code for violation in report.violations] == ["LIMIT"]
    assert message in report.violations[0].message


def test_arguments_are_counted_through_tuples(manifest, ask, read):
    report = check(ask(read(), Node("torch.cat", ((Ref(0),) * 80_001,), {"dim": 1}), outputs={"x": 1}), manifest)
    assert [violation.message for violation in report.violations] == [
        "80004 arguments of all nodes, at most 80000 are allowed"
    ]


def test_an_index_behind_an_ellipsis_is_named_without_looking_it_up(manifest, ask, read):
    index = Node("tensor.getitem", (Ref(0), (Dots(), 1000)))
    (violation,) = check(ask(read("logits"), index, outputs={"x": 1}), manifest, [7]).violations
    assert violation.code == "POSITION_OUT_OF_RANGE"
    assert "position 1000 is out of range for d_vocab=50" in violation.message


def test_an_unknown_artifact_comes_with_those_that_there_are(manifest, ask, read):
    request = ask(read(), Node("sae.encode", (Ref(0),), {"sae": "zzz"}), outputs={"x": 1})
    (violation,) = check(request, manifest).violations
    assert violation.message.startswith("artifact 'zzz' does not exist; there is '")


def test_nothing_stands_for_a_parameter_only_where_it_is_the_default(found, ask, read):
    request = ask(read("logits"), Node("torch.topk", (Ref(0),), {"k": 2, "sorted": None}), outputs={"x": 1})
    assert found(request) == [("BAD_PARAM", "graph.nodes[1].params.sorted")]


def test_positions_of_a_site_are_a_tuple(found, ask):
    request = ask(Node("site.read", (), {"site": "logits", "positions": 3}), outputs={"x": 0})
    assert found(request) == [("BAD_PARAM", "graph.nodes[0].params.positions")]


def test_calls_that_differ_in_one_constant_only_have_types_of_their_own(manifest, ask, read):
    nodes = [
        read(),
        Node("torch.sum", (Ref(0),), {"dim": 1}),
        Node("torch.sum", (Ref(0),), {"dim": 2}),
        Node("torch.sum", (Ref(0),), {"dim": 1, "keepdim": True}),
        Node("torch.mul", (Ref(0), 2)),
        Node("torch.eq", (Ref(0), 2)),
        Node("torch.sum", (Ref(5),), {"dim": 1}),
        Node("torch.sum", (Ref(4),), {"dim": 1}),
        Node("tensor.getitem", (Ref(0), (0, 1))),
        Node("tensor.getitem", (Ref(0), (0, Slice(0, 1)))),
    ]
    report = check(ask(*nodes, outputs={str(i): i for i in range(1, 10) if i != 5}), manifest, [7])
    assert [str(types[0]) for types in report.types] == [
        "float32[batch=1 pos=7 d_model=8]",
        "float32[batch=1 d_model=8]",
        "float32[batch=1 pos=7]",
        "float32[batch=1 pos=1 d_model=8]",
        "float32[batch=1 pos=7 d_model=8]",
        "bool[batch=1 pos=7 d_model=8]",
        "int64[batch=1 d_model=8]",
        "float32[batch=1 d_model=8]",
        "float32[d_model=8]",
        "float32[pos=1 d_model=8]",
    ]


def test_the_same_site_of_two_prompts_has_the_length_of_each(manifest, ask, read):
    request = ask(read(), read(invoke=1), outputs={"a": 0, "b": 1}, prompts=2)
    types = check(request, manifest, [7, 5]).types
    assert [str(kinds[0]) for kinds in types] == [
        "float32[batch=1 pos=7 d_model=8]",
        "float32[batch=1 pos=5 d_model=8]",
    ]
