"""Half precision: every value is the model's own, bit for bit where that is promised, within its own ulp elsewhere."""

import copy

import numpy as np
import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import Done, Failed, Result, RunRequest
from interpd.graph.types import TensorData
from interpd.plugin.registry import load_registry
from interpd.testing.tiny_models import tiny_llama

SITE = "layers.1.resid_post"
TEXTS = ("The cat sat on the mat.", "Lisbon is", "Once upon a time")
SHARED = {torch.float16: 16, torch.bfloat16: 16}
"""How many units in the last place of the largest value a shared pass may differ from a pass of its own."""


class Half:
    """A tiny Llama in half precision, and the same without us."""

    def __init__(self, dtype):
        tiny = tiny_llama()
        self.dtype = dtype
        self.name = str(dtype).removeprefix("torch.")
        self.oracle = copy.deepcopy(tiny.model).to(dtype).requires_grad_(False)
        model = tiny.model.to(dtype).requires_grad_(False)
        registry = load_registry(())
        self.resident = make_resident(Loaded(model, tiny.tokenizer, ModelSpec("tiny", name="tiny"), "tiny"), registry)
        self.engine = NnsightEngine(self.resident, registry)

    def run(self, graph, *texts, generation=None):
        prompts = tuple(Prompt(text=text) for text in texts or TEXTS[:1])
        self.engine.submit(RunRequest("run", "tiny", prompts, graph, generation))
        events = []
        while self.engine.has_work:
            events += self.engine.step()
        if isinstance(events[-1], Failed):
            raise events[-1].error
        assert isinstance(events[-1], Done)
        return {event.name: event.tensor for event in events if isinstance(event, Result)}, events[-1]

    def ids(self, text=TEXTS[0]):
        return torch.tensor([self.resident.tokenize(Prompt(text=text)).ids])

    def hooked(self, edit=None):
        """(output of layer 1, logits) in plain torch; ``edit`` replaces the first."""
        seen = []

        def hook(_, __, output):
            seen.append(output if edit is None else edit(output))
            return seen[0]

        handle = self.oracle.model.layers[1].register_forward_hook(hook)
        logits = self.oracle(self.ids()).logits
        handle.remove()
        return seen[0], logits


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=str)
def half(request):
    return Half(request.param)


def read(site=SITE, **fields):
    return Node("site.read", params={"site": site}, **fields)


def exactly(data, tensor):
    """Whether data of the wire are the tensor's own bits, and numpy shows its very numbers."""
    assert data.dtype == str(tensor.dtype).removeprefix("torch.")
    shown = torch.from_numpy(data.to_numpy().astype(np.float32))
    return torch.equal(shown, tensor.detach().float())


def test_the_manifest_states_the_dtype_and_no_site_fails_its_test(half):
    manifest = half.engine.describe()
    assert (manifest.model.dtype, manifest.sites[SITE].type.dtype) == (half.name, half.name)
    assert not [site for site in manifest.absent_sites if "self-test" in site.reason]


def test_reads_are_the_models_own_bits(half):
    stream, logits = half.hooked()
    found, done = half.run(Graph((read(), read("logits")), {"stream": Ref(0), "logits": Ref(1)}))
    assert exactly(found["stream"], stream)
    assert exactly(found["logits"], logits)
    assert done.provenance.dtype == half.name


def test_writing_back_what_was_read_changes_no_bit(half):
    _, logits = half.hooked()
    nodes = (read(), Node("site.write", (Ref(0),), {"site": SITE}), read("logits"))
    assert exactly(half.run(Graph(nodes, {"logits": Ref(2)}))[0]["logits"], logits)


@pytest.mark.parametrize("given", ["float32", "the model's"])
def test_constants_are_taken_in_any_precision_and_written_in_the_models(half, given):
    direction = torch.linspace(-1, 1, 24).to(half.dtype)
    constant = TensorData.from_numpy(direction.float().numpy())
    if given != "float32":
        bits = direction.view(torch.int16).numpy().tobytes()
        constant = TensorData(half.name, (24,), bits)
    nodes = (
        read(),
        Node("torch.add", (Ref(0), constant)),
        Node("site.write", (Ref(1),), {"site": SITE}),
        read("logits"),
    )
    wide = direction.float() if given == "float32" else direction
    _, logits = half.hooked(lambda output: (output + wide).to(half.dtype))
    assert exactly(half.run(Graph(nodes, {"logits": Ref(3)}))[0]["logits"], logits)


def test_gradients_are_those_of_autograd(half):
    nodes = (read(), read("logits"), Node("torch.sum", (Ref(1),)), Node("site.grad", (Ref(2), Ref(0))))
    held = []

    def leaf(output):
        held.append(output.detach().requires_grad_())
        return held[0]

    _, logits = half.hooked(leaf)
    (expected,) = torch.autograd.grad(logits.sum(), held)
    assert exactly(half.run(Graph(nodes, {"gradient": Ref(3)}))[0]["gradient"], expected)


def test_a_shared_pass_differs_by_a_few_units_in_the_last_place(half):
    eps = torch.finfo(half.dtype).eps
    nodes = tuple(read("logits", invoke=index) for index in range(len(TEXTS)))
    together, _ = half.run(Graph(nodes, {str(index): Ref(index) for index in range(len(TEXTS))}), *TEXTS)
    for index, text in enumerate(TEXTS):
        alone = half.oracle(half.ids(text)).logits.float()
        error = (torch.from_numpy(together[str(index)].to_numpy().astype(np.float32)) - alone).abs().max()
        assert error <= SHARED[half.dtype] * eps * alone.abs().max()


def test_greedy_tokens_are_those_of_the_plain_model(half):
    _, done = half.run(Graph((), {}), generation=Generation(max_new_tokens=6, ignore_eos=True))
    seen = half.ids()
    for _ in range(6):
        seen = torch.cat([seen, half.oracle(seen).logits[:, -1:].float().argmax(-1)], dim=1)
    assert done.generated[0].token_ids == tuple(seen[0, -6:].tolist())


def test_draws_are_made_from_probabilities_in_single_precision(half):
    options = Generation(max_new_tokens=5, do_sample=True, temperature=0.7, top_p=0.9, seed=3, ignore_eos=True)
    first, again = (half.run(Graph((), {}), generation=options)[1].generated[0].token_ids for _ in range(2))
    assert first == again


def test_an_overflow_is_flagged(half):
    factor = torch.finfo(half.dtype).max
    nodes = (read(), Node("torch.mul", (Ref(0), factor)), Node("torch.mul", (Ref(0), 1.0)))
    found, done = half.run(Graph(nodes, {"large": Ref(1), "plain": Ref(2)}))
    assert done.non_finite == ("large",)
    assert np.isinf(found["large"].to_numpy()).any()
