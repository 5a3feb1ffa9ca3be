"""Adapters: what PEFT itself computes, beside a base model that stays what it was; and everything that is refused."""

import copy
import json
import re
import shutil
from types import ModuleType

import pytest
import torch
from jaxtyping import Float
from peft import (
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PromptTuningConfig,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from interpd.engine.weights import Weights
from interpd.errors import AdapterNotFound, CallerError, FeatureUnsupported, InvalidRequest, OpFailed
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import Done, Failed, Result, RunRequest
from interpd.graph.schema import AdapterInfo
from interpd.sdk import hookimpl, method
from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_adapters import adapted_by_peft, save_adapter
from interpd.testing.tiny_models import tiny_model

TEXTS = ("The cat sat on the mat.", "Lisbon is", "Once upon a time")
NAMES = ("", "a", "b", "dora")
SITES = ("layers.1.attn.q", "layers.2.resid_post", "layers.0.attn.pattern", "logits")
SOME = ["q_proj", "v_proj", "down_proj"]


@method("adapted.slope")
def slope(ctx) -> Float[Tensor, "batch pos d_model"]:
    """The gradient of logit 5 by the last layer, once that is halved."""
    site = "layers.2.resid_post"
    values = ctx.session.forward(
        ctx.input_ids, reads=[site, "logits"], edits={site: lambda value: value / 2}, grad=True
    )
    return torch.autograd.grad(values["logits"][0, -1, 5], values[site])[0]


def plugin():
    module = ModuleType("adapted")
    module.interpd_register_methods = hookimpl(lambda: [slope])
    return module


class Bench:
    """A tiny Llama with three adapters, and the same as PEFT runs it."""

    def __init__(self, folder, configs=None, architecture="llama"):
        tiny = tiny_model(architecture)
        configs = configs or {"a": None, "b": LoraConfig(r=2, target_modules=SOME, modules_to_save=["lm_head"])}
        self.plain = tiny.model.eval().requires_grad_(False)
        self.oracles = {"": copy.deepcopy(tiny.model)}
        self.folders = {}
        for seed, (name, config) in enumerate(configs.items()):
            self.folders[name] = save_adapter(folder / name, tiny.model, config, seed)
            self.oracles[name] = adapted_by_peft(tiny.model, self.folders[name])
        self.model = InProcessModel({"adapted": plugin()}, tiny)
        self.engine = self.model.engine
        self.infos = {name: self.put(name, path) for name, path in self.folders.items()}

    def put(self, name, folder):
        return self.engine.put_adapter(AdapterInfo(name, str(folder), f"sha256:{name}"), str(folder))

    def ids(self, text):
        return torch.tensor([self.engine.tokenize([Prompt(text=text)])[0].ids])

    def run(self, *requests):
        """Results by run, all taken in at once; raises what a run fails with."""
        for request in requests:
            self.engine.submit(request)
        events = []
        while self.engine.has_work:
            events += self.engine.step()
        failed = [event.error for event in events if isinstance(event, Failed)]
        if failed:
            raise failed[0]
        ends = {event.run_id: event for event in events if isinstance(event, Done)}
        found = {name: {} for name in ends}
        for event in events:
            if isinstance(event, Result):
                found[event.run_id][event.name] = torch.from_numpy(event.tensor.to_numpy())
        return found, ends


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    configs = {
        "a": None,
        "b": LoraConfig(r=2, target_modules=SOME, modules_to_save=["lm_head"]),
        "dora": LoraConfig(r=4, target_modules=SOME, use_dora=True),
    }
    return Bench(tmp_path_factory.mktemp("adapters"), configs)


@pytest.fixture
def saved(bench, tmp_path):
    return shutil.copytree(bench.folders["a"], tmp_path / "adapter")


def reads(*sites):
    nodes = tuple(Node("site.read", params={"site": site}) for site in sites)
    return Graph(nodes, {site: Ref(index) for index, site in enumerate(sites)})


def request_of(adapter="", text=TEXTS[0], graph=None, **fields):
    name = f"{adapter or 'base'}-{text[:4]}-{len(fields)}".replace(" ", "_")
    return RunRequest(name, "tiny", (Prompt(text=text),), graph or reads("logits"), adapter=adapter, **fields)


def rewrite(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_adapter_gives_the_logits_that_peft_gives(bench):
    for name in NAMES:
        found, _ = bench.run(request_of(name))
        (logits,) = found.values()
        assert torch.equal(logits["logits"], bench.oracles[name](bench.ids(TEXTS[0])).logits), name


def test_a_module_of_the_base_keeps_its_path_and_gives_the_adapted_output(bench):
    seen = {}
    path = "model.layers.1.self_attn.q_proj"
    oracle = bench.oracles["a"].base_model.model
    hook = oracle.get_submodule(path).register_forward_hook(lambda _, __, output: seen.update(q=output))
    oracle(bench.ids(TEXTS[0]))
    hook.remove()
    found, _ = bench.run(request_of("a", graph=reads("layers.1.attn.q", f"{path}.output")))
    (values,) = found.values()
    assert torch.equal(values[f"{path}.output"], seen["q"])
    assert torch.equal(values["layers.1.attn.q"].flatten(2), seen["q"])


def test_mixed_company_gives_what_each_gets_alone(bench):
    requests = [request_of(name, text, reads(*SITES)) for name in NAMES for text in TEXTS]
    together, ends = bench.run(*requests)
    for request in requests:
        alone, _ = bench.run(request)
        for site, value in alone[request.run_id].items():
            torch.testing.assert_close(together[request.run_id][site], value, rtol=1e-4, atol=1e-4)
    # those of one adapter share passes where their lengths allow it
    assert {end.cost.shared_with for end in ends.values()} == {(1,), (2,)}


def test_provenance_names_the_adapter_and_its_digest(bench):
    _, ends = bench.run(request_of("a"), request_of(""))
    facts = {(end.provenance.adapter, end.provenance.adapter_digest) for end in ends.values()}
    assert facts == {("a", "sha256:a"), ("", "")}


def test_a_generation_runs_with_its_adapter(bench):
    options = Generation(max_new_tokens=6, ignore_eos=True)
    requests = [request_of(name, generation=options, graph=Graph((), {})) for name in NAMES]
    _, ends = bench.run(*requests)
    ids = bench.ids(TEXTS[0])
    for request in requests:
        oracle, seen = bench.oracles[request.adapter], ids
        for _ in range(6):
            seen = torch.cat([seen, oracle(seen).logits[:, -1:].argmax(-1)], dim=1)
        assert ends[request.run_id].generated[0].token_ids == tuple(seen[0, ids.shape[1] :].tolist())


def test_gradients_are_those_of_the_adapted_model(bench):
    nodes = (
        Node("site.read", params={"site": "layers.0.resid_post"}),
        Node("site.read", params={"site": "logits"}),
        Node("torch.sum", (Ref(1),)),
        Node("site.grad", (Ref(2), Ref(0))),
    )
    graph = Graph(nodes, {"gradient": Ref(3)})
    found, _ = bench.run(request_of("a", graph=graph), request_of("", graph=graph))
    for request in (request_of("a", graph=graph), request_of("", graph=graph)):
        oracle = bench.oracles[request.adapter]
        module = oracle.get_submodule("base_model.model" if request.adapter else "").model.layers[0]
        held = []

        def keep(_, __, output, held=held):
            held.append(output.detach().requires_grad_())
            return held[0]

        hook = module.register_forward_hook(keep)
        (expected,) = torch.autograd.grad(oracle(bench.ids(TEXTS[0])).logits.sum(), held)
        hook.remove()
        torch.testing.assert_close(found[request.run_id]["gradient"], expected, rtol=1e-5, atol=1e-5)


def test_a_module_is_called_with_the_adapter_and_its_weights_are_not_passed_off_as_adapted(bench):
    path = "model.layers.0.self_attn.q_proj"
    nodes = (Node("site.read", params={"site": "embed"}), Node("module.call", (Ref(0),), {"module": path}))
    found, _ = bench.run(request_of("a", graph=Graph(nodes, {"q": Ref(1)})))
    (values,) = found.values()
    oracle = bench.oracles["a"].base_model.model
    embedded = oracle.model.embed_tokens(bench.ids(TEXTS[0]))
    assert torch.equal(values["q"], oracle.get_submodule(path)(embedded))
    weight = Graph((Node("param.read", params={"name": f"{path}.weight"}),), {"w": Ref(0)})
    with pytest.raises(CallerError, match=f"adapter 'a' changes module '{path}'"):
        bench.run(request_of("a", graph=weight))
    found, _ = bench.run(request_of("", graph=weight))
    assert torch.equal(next(iter(found.values()))["w"], bench.plain.get_parameter(f"{path}.weight"))


def test_the_manifest_lists_what_is_known(bench):
    info = bench.engine.describe().adapters["b"]
    assert (info.kind, info.n_modules, info.problem) == ("LORA", 10, "")
    assert info.n_parameters == sum(tensor.numel() for tensor in load_file(bench.folders["b"] / WEIGHTS).values())


WEIGHTS = "adapter_model.safetensors"


def test_an_unknown_adapter_is_refused_with_what_there_is(bench):
    with pytest.raises(AdapterNotFound, match="no adapter 'dara'; did you mean 'dora'"):
        bench.run(request_of("dara"))
    with pytest.raises(AdapterNotFound, match="no adapter 'quite other'; it has 'a', 'b', 'dora'"):
        bench.run(request_of("quite other"))


def test_an_adapter_may_be_replaced_and_dropped_while_runs_have_it(bench, tmp_path):
    options = Generation(max_new_tokens=4, ignore_eos=True)
    bench.put("passing", bench.folders["a"])
    _, alone = bench.run(request_of("passing", generation=options, graph=Graph((), {})))
    request = request_of("passing", generation=options, graph=Graph((), {}))
    bench.engine.submit(request)
    first = bench.engine.step()
    bench.put("passing", bench.folders["b"])
    bench.engine.drop_adapter("passing")
    _, ends = bench.run()
    assert first
    assert ends[request.run_id].generated == alone[request.run_id].generated
    with pytest.raises(AdapterNotFound):
        bench.run(request_of("passing"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, FeatureUnsupported, "'PROMPT_TUNING' are not served; those of LORA, IA3"),
        ({"peft_type": ["LORA"]}, FeatureUnsupported, "are not served"),
        ({"init_lora_weights": "pissa"}, FeatureUnsupported, "'pissa' goes with base weights of its own"),
        ({"layer_replication": [[0, 2], [1, 3]]}, FeatureUnsupported, "sets layer_replication"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, FeatureUnsupported, "sets megatron_config"),
        ({"bias": "all"}, FeatureUnsupported, "sets bias = 'all'"),
        ({"trainable_token_indices": [1]}, FeatureUnsupported, "sets trainable_token_indices"),
        ({"never_heard_of": 3}, FeatureUnsupported, "never_heard_of = 3, which PEFT .* does not know"),
        (
            {"modules_to_save": ["mlp"]},
            FeatureUnsupported,
            r"replace 'model\.layers\.0\.mlp', which has modules inside",
        ),
        ({"r": 5}, InvalidRequest, "its config says rank 5"),
        ({"r": 10**9}, InvalidRequest, "no dimension above"),
        ({"r": "4"}, InvalidRequest, "r = '4', expected int"),
        ({"lora_alpha": True}, InvalidRequest, "lora_alpha = True, expected int or float"),
        ({"use_dora": True}, InvalidRequest, "the file lacks .* of its tensors"),
        ({"rank_pattern": {"((a*)*)*b": 2}}, None, ""),
        ({"rank_pattern": {"(((": 2}}, InvalidRequest, r"pattern '\(\(\(', which cannot be matched"),
        ({"alpha_pattern": {"(.*.*.*.*.*.*.*.*.*.*)*x": 2}}, None, ""),
        ({"modules_to_save": "lm_head"}, InvalidRequest, "expected a list of names"),
    ],
)
def test_a_config_asks_for_nothing_but_its_weights(bench, saved, changes, error, message):
    rewrite(saved, **changes)
    if error is None:
        assert bench.put("odd", saved).problem == ""
        return
    with pytest.raises(error, match=message):
        bench.put("odd", saved)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda t: {k: v[:, :-1].contiguous() if v.ndim == 2 else v for k, v in t.items()},
            InvalidRequest,
            "does not fit",
        ),
        (lambda t: {k.replace("layers.2", "layers.7"): v for k, v in t.items()}, InvalidRequest, "does not have"),
        (
            lambda t: {k: v for k, v in t.items() if "layers.1.mlp.up_proj.lora_B" not in k},
            InvalidRequest,
            "the file lacks 1",
        ),
        (
            lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()},
            InvalidRequest,
            "PEFT did not save it",
        ),
        (
            lambda t: {**t, "base_model.model.model.norm.weight": torch.ones(24)},
            FeatureUnsupported,
            "would replace the model's",
        ),
        (
            lambda t: {**t, "base_model.model.lm_head.weight": torch.ones(330, 24)},
            FeatureUnsupported,
            "resized embeddings",
        ),
        (lambda t: {k: v * torch.inf for k, v in t.items()}, InvalidRequest, "other values than finite"),
        (lambda t: {k: v.to(torch.int32) for k, v in t.items()}, InvalidRequest, "other values than finite"),
        (lambda t: {"base_model.model.x": torch.ones(2)}, FeatureUnsupported, "would change the base model's own"),
    ],
    ids=["shape", "layer", "half", "prefix", "norm", "vocabulary", "inf", "integers", "nothing"],
)
def test_weights_for_another_model_are_refused(bench, saved, change, error, message):
    save_file(change(load_file(saved / WEIGHTS)), saved / WEIGHTS)
    with pytest.raises(error, match=f"adapter 'odd' of model 'tiny': .*{message}"):
        bench.put("odd", saved)


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS])
@pytest.mark.parametrize("content", [b"", b"[]", b"\x00" * 100])
def test_damaged_files_are_refused(bench, saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match="adapter 'odd' of model 'tiny': "):
        bench.put("odd", saved)


def test_after_all_refusals_the_base_is_bit_for_bit_what_it_was(bench, saved):
    rewrite(saved, bias="all")
    with pytest.raises(FeatureUnsupported):
        bench.put("odd", saved)
    fresh = tiny_model("llama").model
    for name, weight in fresh.state_dict().items():
        assert torch.equal(bench.plain.state_dict()[name], weight)
    found, _ = bench.run(request_of())
    (values,) = found.values()
    assert torch.equal(values["logits"], fresh(bench.ids(TEXTS[0])).logits)


def test_embeddings_that_peft_saves_beside_adapted_ones_are_taken_when_they_are_the_models_own(bench, tmp_path):
    config = LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"])
    folder = save_adapter(tmp_path / "embeddings", tiny_model("llama").model, config)
    own = load_file(folder / WEIGHTS)
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    assert name in own
    bench.put("embeddings", folder)
    found, _ = bench.run(request_of("embeddings"))
    oracle = adapted_by_peft(tiny_model("llama").model, folder)
    assert torch.equal(next(iter(found.values()))["logits"], oracle(bench.ids(TEXTS[0])).logits)
    save_file({**own, name: own[name] + 1}, folder / WEIGHTS)
    with pytest.raises(FeatureUnsupported, match="which is another"):
        bench.put("embeddings", folder)


KINDS = {
    "rslora": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=SOME),
    "patterns": LoraConfig(
        r=4, target_modules=SOME, rank_pattern={r"layers\.1\.self_attn\.q_proj": 2}, alpha_pattern={"down_proj": 7}
    ),
    "a pattern of modules": LoraConfig(r=4, target_modules=r".*\.(q|v)_proj"),
    "some layers": LoraConfig(r=4, target_modules=SOME, layers_to_transform=[1]),
    "norms saved": LoraConfig(r=4, target_modules=SOME, modules_to_save=["norm"]),
    "bias": LoraConfig(r=4, target_modules=SOME, lora_bias=True),
    "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": LoHaConfig(r=4, alpha=3, target_modules=SOME, rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 9}),
    "lokr": LoKrConfig(r=2, decompose_both=True, decompose_factor=4, target_modules=SOME),
    "hra": HRAConfig(r=4, apply_GS=True, target_modules=SOME),
    "norms": LNTuningConfig(target_modules=["input_layernorm", "norm"]),
}


@pytest.mark.slow
def test_every_kind_that_is_served_gives_what_peft_gives(tmp_path):
    bench = Bench(tmp_path, KINDS)
    for name in KINDS:
        found, _ = bench.run(request_of(name))
        assert torch.equal(next(iter(found.values()))["logits"], bench.oracles[name](bench.ids(TEXTS[0])).logits), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "gpt_neox", "qwen2"])
def test_other_architectures_take_adapters_too(tmp_path, architecture):
    fused = {"gpt2": LoraConfig(r=4, target_modules=["c_attn", "c_proj", "wte"], fan_in_fan_out=True)}
    bench = Bench(tmp_path, {"a": fused.get(architecture)}, architecture)
    requests = [request_of(name, graph=reads("layers.1.resid_post", "logits")) for name in ("", "a")]
    found, _ = bench.run(*requests)
    for request in requests:
        expected = bench.oracles[request.adapter](bench.ids(TEXTS[0]), output_hidden_states=True)
        assert torch.equal(found[request.run_id]["logits"], expected.logits)
        assert torch.equal(found[request.run_id]["layers.1.resid_post"], expected.hidden_states[2])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_both_sides_of_an_encoder_decoder_model_are_adapted(tmp_path, architecture):
    bench = Bench(tmp_path, {"a": None}, architecture)
    prompts = (Prompt(text=TEXTS[0], target_text=TEXTS[1]), Prompt(text=TEXTS[2]))
    # the eager attention is chosen for each side of the adapted model by itself
    graph = reads("encoder.layers.1.attn.pattern", "decoder.layers.1.cross_attn.pattern", "logits")
    for name, oracle in bench.oracles.items():
        oracle.set_attn_implementation("eager")
        for prompt in prompts:
            tokens = bench.engine.tokenize([prompt])[0]
            sides = {"input_ids": torch.tensor([tokens.ids]), "decoder_input_ids": torch.tensor([tokens.target.ids])}
            theirs = oracle(**sides, output_attentions=True)
            found, _ = bench.run(RunRequest("run", "tiny", (prompt,), graph, adapter=name))
            expected = (theirs.encoder_attentions[1][0], theirs.cross_attentions[1][0], theirs.logits[0])
            for site, wanted in zip(graph.outputs, expected, strict=True):
                assert torch.allclose(found["run"][site].squeeze(0), wanted, atol=1e-4), (name, site)


def test_a_method_works_on_the_adapted_model(bench):
    graph = Graph((Node("adapted.slope"),), {"slope": Ref(0)})
    requests = [RunRequest(f"run {name}", "tiny", (Prompt(text=TEXTS[0]),), graph, adapter=name) for name in NAMES]
    found, _ = bench.run(*requests)
    for name in NAMES:
        oracle, last = bench.oracles[name], []
        oracle = oracle.get_base_model() if name else oracle
        norm = oracle.get_submodule("model.norm")
        with norm.register_forward_pre_hook(lambda _, args, last=last: last.append(args[0])):
            oracle(bench.ids(TEXTS[0]))
        # half of the last layer goes into the norm in front of the logits
        half = (last[0] / 2).detach().requires_grad_()
        logits = oracle.get_submodule("lm_head")(norm(half))
        (expected,) = torch.autograd.grad(logits[0, -1, 5], half)
        assert torch.equal(found[f"run {name}"]["slope"], expected), name


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.lora_A.default.weight", "model.embed_tokens.weight"])
def test_weights_that_change_while_a_plugin_runs_with_an_adapter_are_noticed(bench, tmp_path, name):
    twin = bench.engine._adapters.get("a")
    whole = Weights(bench.plain)
    adapted = Weights(twin.model, whole)
    with pytest.raises(OpFailed, match=re.escape(name)), adapted.watched("run", "op 'rude'"), torch.no_grad():
        twin.model.get_parameter(name).mul_(1.0)
    assert whole.blame is not None
    assert whole.blame[0] == "run"


def test_prompt_learning_is_refused(bench, tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    folder = save_adapter(tmp_path / "prompt", tiny_model("llama").model, config)
    with pytest.raises(FeatureUnsupported, match="adapters of type 'PROMPT_TUNING' are not served"):
        bench.put("odd", folder)
