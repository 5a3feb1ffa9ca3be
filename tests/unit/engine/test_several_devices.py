"""A model over two devices gives what it gives on one: stand-ins of devices refuse what CUDA refuses."""

import warnings
from types import ModuleType

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import Done, Failed, Result, RunRequest
from interpd.graph.schema import AdapterInfo
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import Recomputed, hookimpl, method
from interpd.specs import checked_model
from interpd.testing.several_devices import several_devices
from interpd.testing.tiny_adapters import save_adapter
from interpd.testing.tiny_models import save_tiny, tiny_gpt2, tiny_llama, tiny_model
from interpd.worker.device_map import dispatched, placement
from interpd.worker.loading import load_model

pytestmark = pytest.mark.slow

TEXTS = ("The cat sat on the mat.", "Lisbon is the", "Once upon a time")
MAP = {
    "model.embed_tokens": "cpu:0",
    "model.rotary_emb": "cpu:0",
    "model.layers.0": "cpu:0",
    "model.layers.1": "cpu:1",
    "model.layers.2": "cpu:1",
    "model.norm": "cpu:1",
    "lm_head": "cpu:1",
}


@method("two.sides")
def sides(ctx) -> Float[Tensor, "batch pos d_model"]:
    """Values, edits and gradients of layers on both devices, put together."""
    first, last = "layers.0.resid_post", "layers.2.resid_post"
    edits = {"layers.1.resid_pre": lambda value: value + value.mean()}
    values = ctx.session.forward(ctx.input_ids, reads=[first, last, "logits"], edits=edits, grad=True)
    gradients = torch.autograd.grad(values["logits"].sum(), [values[first], values[last]])
    weight = ctx.session.parameter("model.norm.weight")
    return (values[first] + values[last] + gradients[0] * gradients[1]).detach() * weight


@method("two.company")
def company(ctx, target: Recomputed[Float[Tensor, ""]]) -> Float[Tensor, "row pos d_model"]:
    """Values and edits of both devices in two rows, and a value of the graph."""
    first, last = "layers.0.resid_post", "layers.2.resid_post"
    edits = {f"layers.{layer}.resid_mid": lambda value: value * 1.5 for layer in (0, 2)}
    ids = ctx.input_ids.repeat(2, 1)
    values = ctx.session.forward(ids, reads=[first, last], values=[target], edits=edits, lengths=[ids.shape[1], 2])
    seeded = ctx.session.forward(ctx.input_ids, reads=[last], dropout_seed=3)[last]
    return (values[first] + values[last]) * values[target][:, None, None] + seeded


def plugin():
    module = ModuleType("two")
    module.interpd_register_methods = hookimpl(lambda: [sides, company])
    return module


TIED = {
    "transformer.wte": "cpu:0",
    "transformer.wpe": "cpu:0",
    "transformer.drop": "cpu:0",
    "transformer.h.0": "cpu:0",
    "transformer.h.1": "cpu:1",
    "transformer.h.2": "cpu:1",
    "transformer.ln_f": "cpu:1",
    "lm_head": "cpu:0",
}


def engine_of(model, tokenizer):
    registry = load_registry(["two"], candidates=[built_in(), candidate_of(plugin(), "two")])
    assert [info.problem for info in registry.plugins] == ["", ""]
    resident = make_resident(Loaded(model, tokenizer, ModelSpec("tiny", name="tiny"), "tiny"), registry)
    return NnsightEngine(resident, registry)


def outcome(engine, *requests):
    """Results and generated tokens, by run."""
    for request in requests:
        engine.submit(request)
    events = []
    while engine.has_work:
        events += engine.step()
    failed = [event.error for event in events if isinstance(event, Failed)]
    if failed:
        raise failed[0]
    found = {event.run_id: [event.generated] for event in events if isinstance(event, Done)}
    for event in events:
        if isinstance(event, Result):
            found[event.run_id].append((event.name, event.tensor))
    return found


def read(site, **fields):
    return Node("site.read", params={"site": site, **fields})


def write(value, site):
    return Node("site.write", (Ref(value),), {"site": site})


GRAPHS = {
    "reads": Graph(
        (read("layers.0.resid_post"), read("layers.2.resid_post"), read("logits"), read("layers.1.attn.pattern")),
        {str(index): Ref(index) for index in range(4)},
    ),
    "some logits": Graph((read("logits", positions=(-1,)),), {"x": Ref(0)}),
    "values of both devices": Graph(
        (read("layers.0.resid_post"), read("layers.2.resid_post"), Node("torch.add", (Ref(0), Ref(1)))), {"x": Ref(2)}
    ),
    "a write on the other device": Graph(
        (
            read("layers.0.resid_post"),
            Node("torch.mul", (Ref(0), 2.0)),
            write(1, "layers.2.resid_pre"),
            read("logits"),
        ),
        {"x": Ref(3)},
    ),
    "a write that is carried": Graph(
        (
            read("layers.0.resid_mid"),
            Node("torch.mul", (Ref(0), 2.0)),
            write(1, "layers.2.resid_mid"),
            read("layers.2.resid_post"),
        ),
        {"x": Ref(3)},
    ),
    "gradients": Graph(
        (
            read("layers.0.resid_post"),
            read("layers.2.resid_post"),
            read("logits"),
            Node("torch.sum", (Ref(2),)),
            Node("site.grad", (Ref(3), Ref(0))),
            Node("site.grad", (Ref(3), Ref(1))),
            Node("torch.add", (Ref(4), Ref(5))),
        ),
        {"x": Ref(6), "y": Ref(4)},
    ),
    "a module and a weight": Graph(
        (
            read("layers.0.resid_post"),
            Node("module.call", (Ref(0),), {"module": "model.norm"}),
            Node("param.read", params={"name": "model.norm.weight"}),
            Node("torch.mul", (Ref(1), Ref(2))),
            Node("torch.add", (Ref(3), Ref(0))),
        ),
        {"x": Ref(4)},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("adapters") / "a", tiny_llama().model)


@pytest.fixture(scope="module")
def one():
    tiny = tiny_llama()
    return engine_of(tiny.model.eval().requires_grad_(False), tiny.tokenizer)


@pytest.fixture(scope="module")
def two():
    tiny = tiny_llama()
    with several_devices(), warnings.catch_warnings():
        # accelerate tells what it cannot know of these devices
        warnings.simplefilter("ignore")
        yield engine_of(dispatched(tiny.model.eval().requires_grad_(False), MAP), tiny.tokenizer)


@pytest.fixture
def both(one, two):
    def same(*requests):
        expected = outcome(one, *requests)
        assert outcome(two, *requests) == expected
        return expected

    return same


def test_the_stand_ins_refuse_what_cuda_refuses(two):
    here, there = torch.ones(2, device="cpu:0"), torch.ones(2, device="cpu:1")
    with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        here + there
    with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        here + torch.as_tensor([1.0, 2.0])
    assert (here + there.to("cpu:0")).device == torch.device("cpu:0")
    labels = {name: parameter.device.index for name, parameter in two._access.resident.model.named_parameters()}
    assert (labels["model.embed_tokens.weight"], labels["lm_head.weight"]) == (0, 1)


def test_the_manifest_names_all_devices(one, two):
    assert (one.describe().model.device, two.describe().model.device) == ("cpu", "cpu:0, cpu:1")


def test_every_site_passes_its_test_on_two_devices(one, two):
    names = lambda engine: [site.name for site in engine.describe().absent_sites]  # noqa: E731
    assert names(two) == names(one)


@pytest.mark.parametrize("name", GRAPHS)
def test_values_of_a_request_are_together(both, name):
    found = both(RunRequest("run", "tiny", (Prompt(text=TEXTS[0]),), GRAPHS[name]))
    assert len(found["run"]) > 1


def test_a_method_sees_its_values_together(both):
    found = both(RunRequest("run", "tiny", (Prompt(text=TEXTS[0]),), Graph((Node("two.sides"),), {"x": Ref(0)})))
    assert len(found["run"]) == 2


def test_methods_share_passes(both):
    scaled = [read("layers.2.resid_mid"), Node("torch.mul", (Ref(0), 2.0)), write(1, "layers.2.resid_post")]
    nodes = [*scaled, read("logits"), Node("torch.mean", (Ref(3),)), Node("two.company", (Ref(4),))]
    graph = Graph(tuple(nodes), {"x": Ref(5)})
    found = both(*(RunRequest(f"run-{i}", "tiny", (Prompt(text=text),), graph) for i, text in enumerate(TEXTS)))
    assert [len(events) for events in found.values()] == [2] * len(TEXTS)


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1] * 3], ids=["of three prompts", "of one"])
def test_requests_share_passes(both, texts):
    graphs = [GRAPHS["reads"], GRAPHS["a write on the other device"], GRAPHS["some logits"]]
    both(*(RunRequest(f"run-{i}", "tiny", (Prompt(text=text),), graphs[i]) for i, text in enumerate(texts)))


def test_generations_join_and_leave(both):
    steered = Graph(
        (read("layers.1.resid_post"), Node("torch.mul", (Ref(0), 1.1)), write(1, "layers.1.resid_post")), {}
    )
    options = [Generation(max_new_tokens=n, ignore_eos=True) for n in (2, 5, 3)]
    graphs = [Graph((), {}), steered, Graph((), {})]
    both(*(RunRequest(f"run-{i}", "tiny", (Prompt(text=text),), graphs[i], options[i]) for i, text in enumerate(TEXTS)))


def test_an_adapter_lies_where_its_modules_lie(both, one, two, folder):
    for engine in (one, two):
        engine.put_adapter(AdapterInfo("a", str(folder), "sha256:a"), str(folder))
    for name in ("reads", "gradients"):
        both(RunRequest("run", "tiny", (Prompt(text=TEXTS[0]),), GRAPHS[name], adapter="a"))


def test_tied_embeddings_lie_together():
    single, spread = tiny_gpt2(), tiny_gpt2()
    request = RunRequest("run", "tiny", (Prompt(text=TEXTS[0]),), GRAPHS["reads"])
    expected = outcome(engine_of(single.model.eval().requires_grad_(False), single.tokenizer), request)
    with several_devices(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = dispatched(spread.model.eval().requires_grad_(False), TIED)
        assert outcome(engine_of(model, spread.tokenizer), request) == expected


SIDES = (
    Prompt(text=TEXTS[0], target_text=TEXTS[1]),
    Prompt(text=TEXTS[2]),
    Prompt(text=TEXTS[1], target_ids=(5, 7, 9)),
)
ACROSS = Graph(
    (
        read("encoder.layers.0.resid_post"),
        read("encoder.layers.1.resid_post", positions=(0,)),
        Node("torch.mul", (Ref(1), 2.0)),
        write(2, "decoder.layers.2.resid_cross"),
        read("decoder.layers.2.cross_attn.pattern"),
        read("decoder.layers.2.resid_post"),
        read("logits"),
        Node("torch.sum", (Ref(6),)),
        Node("site.grad", (Ref(7), Ref(5))),
    ),
    {"first": Ref(0), "pattern": Ref(4), "last": Ref(5), "logits": Ref(6), "gradient": Ref(8)},
)


@pytest.mark.parametrize("architecture", ["t5", "pegasus"])
def test_both_sides_of_an_encoder_decoder_model_may_lie_apart(architecture):
    single, spread = tiny_model(architecture), tiny_model(architecture)
    requests = [RunRequest(f"run-{i}", "tiny", (prompt,), ACROSS) for i, prompt in enumerate(SIDES)]
    options = [Generation(max_new_tokens=n, ignore_eos=True) for n in (2, 5, 3)]
    texts = [RunRequest(f"run-{i}", "tiny", (prompt,), Graph((), {}), options[i]) for i, prompt in enumerate(SIDES)]
    alone = engine_of(single.model.eval().requires_grad_(False), single.tokenizer)
    with several_devices(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = spread.model.eval().requires_grad_(False)
        n_bytes = sum(parameter.nbytes for parameter in model.parameters())
        placed = placement(model, "auto", {0: n_bytes, 1: n_bytes}, "m")
        assert set(placed.values()) == {0, 1}
        engine = engine_of(dispatched(model, {path: f"cpu:{n}" for path, n in placed.items()}), spread.tokenizer)
        assert outcome(engine, *requests) == outcome(alone, *requests)
        assert outcome(engine, *texts) == outcome(alone, *texts)


@pytest.mark.gpu
def test_two_gpus_give_what_one_gives(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    folder, registry = save_tiny(tmp_path / "llama", "llama"), load_registry(())
    specs = [ModelSpec(str(folder), name="tiny", device="cuda", num_gpus=n) for n in (1, 2)]
    engines = [NnsightEngine(make_resident(load_model(checked_model(spec)), registry), registry) for spec in specs]
    assert engines[1].describe().model.device == "cuda:0, cuda:1"
    options = Generation(max_new_tokens=5, ignore_eos=True)
    for name, graph in GRAPHS.items():
        expected, found = (
            outcome(engine, RunRequest("run", "tiny", (Prompt(text=TEXTS[0]),), graph))["run"][1:] for engine in engines
        )
        for (_, one), (_, other) in zip(expected, found, strict=True):
            torch.testing.assert_close(*(torch.from_numpy(data.to_numpy()) for data in (other, one)), msg=name)
    requests = [
        RunRequest(f"run-{i}", "tiny", (Prompt(text=text),), Graph((), {}), options) for i, text in enumerate(TEXTS)
    ]
    assert outcome(engines[1], *requests) == outcome(engines[0], *requests)
