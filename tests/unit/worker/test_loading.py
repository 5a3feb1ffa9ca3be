"""Loading: what is taken, how it is identified, and everything that is refused, with the reason."""

import json
import shutil

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from interpd.config import ModelSpec
from interpd.engine.tokens import tokenize
from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.graph.ir import Prompt
from interpd.plugin.model import LoadedModel
from interpd.testing.tiny_models import save_tiny, tiny_gpt2
from interpd.worker import hub
from interpd.worker.loading import load_model

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def load(folder, **spec):
    return load_model(ModelSpec(str(folder), **spec))


def rewrite(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_local_folder_is_loaded_frozen_and_in_eval_mode(folder):
    loaded = load(folder)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.is_fast
    ids = torch.tensor([tokenize(loaded.tokenizer, Prompt(text="Lily"), n_vocab=321).ids])
    assert loaded.model(ids).logits.shape == (1, ids.shape[1], 321)


def test_a_local_folder_is_identified_by_the_hash_of_its_files(folder, saved):
    revision = load(folder).revision
    assert revision.startswith("sha256:")
    assert revision == load(saved).revision
    (folder / "README.md").write_text("not part of the model")
    assert load(folder).revision == revision
    rewrite(folder / "tokenizer_config.json", model_max_length=99)
    assert load(folder).revision != revision


def test_a_local_folder_takes_its_own_revision_only(folder):
    revision = load(folder).revision
    assert load(folder, revision=revision).revision == revision
    with pytest.raises(InvalidRequest, match="is not at revision 'main'"):
        load(folder, revision="main")


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_on_a_cpu(folder, kept):
    weights = {name: tensor.to(kept) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rewrite(folder / "config.json", dtype=str(kept).removeprefix("torch."))
    assert load(folder, device="cpu").model.dtype == torch.float32
    explicit = load(folder, device="cpu", dtype="bfloat16").model
    assert explicit.dtype == torch.bfloat16
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(load(folder).model.get_parameter(name), weights[name].float())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"dtype": "int8"}, "unknown dtype 'int8': expected auto, float32"),
        ({"device": "gpu"}, "unknown device 'gpu': expected auto, cpu or cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not here"),
    ],
)
def test_settings_that_do_not_exist_are_refused(folder, spec, message):
    with pytest.raises(InvalidRequest, match=message):
        load(folder, **spec)


def test_pickles_are_refused_with_the_way_to_convert_them(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(FeatureUnsupported, match=r"only 'pytorch_model\.bin'.*save_pretrained"):
        load(folder)


@pytest.mark.parametrize("part", ["", "text_config"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_a_checkpoint_is_refused(folder, name, part):
    asking = {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}
    rewrite(folder / name, **({part: asking} if part else asking))
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    with pytest.raises(FeatureUnsupported, match=f"{name} .* asks for code of its own"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("quantization_config", {"quant_method": "awq"}, "is quantised"),
        ("transformers_weights", "../other.safetensors", "sets 'transformers_weights'"),
        ("fusion_config", {"patch_embeddings": True}, "sets 'fusion_config'"),
    ],
)
def test_a_config_that_redirects_the_loading_is_refused(folder, key, value, message):
    rewrite(folder / "config.json", **{key: value})
    with pytest.raises(FeatureUnsupported, match=message):
        load(folder)


def test_a_folder_with_an_adapter_is_not_loaded_as_a_model(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(FeatureUnsupported, match=r"holds an adapter .*load the model that it was trained on"):
        load(folder)


def test_parts_of_tensors_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "shard-00000-model-00001-of-00001.safetensors")
    with pytest.raises(FeatureUnsupported, match=r"parts of tensors .*save_pretrained"):
        load(folder)


def test_weights_are_the_daemons_own_once_they_are_loaded(folder):
    model = load(folder, dtype="float32").model
    before = model.lm_head.weight.clone()
    size = (folder / "model.safetensors").stat().st_size
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(b"\x00" * size)
    assert torch.equal(model.lm_head.weight, before)


def test_progress_is_told_in_words(folder):
    said = []
    load_model(ModelSpec(str(folder)), report=said.append)
    assert said[0].startswith("hashing ")
    assert any(text.startswith("loading weights: ") for text in said)


def test_an_attention_kernel_named_by_a_config_is_not_fetched(folder):
    rewrite(folder / "config.json", attn_implementation="someone/evil-kernel")
    assert load(folder).model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_encoder_decoder": True, "model_type": "llama"}, "'llama' is no encoder-decoder language model"),
        (
            {"model_type": "never_heard_of"},
            r"does not know a model of type 'never_heard_of'; if it is the architecture of a plugin, name that plugin "
            r"\(--plugin NAME; ",
        ),
        ({"model_type": "clip"}, "no causal language model"),
    ],
)
def test_architectures_that_cannot_be_served_are_refused(folder, changes, message):
    rewrite(folder / "config.json", **changes)
    with pytest.raises(FeatureUnsupported, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "cannot be read"),
        ("config.json", b"[]", "expected an object"),
        ("model.safetensors", b"\x00" * 64, r"weight file 'model\.safetensors' .* is damaged or cut"),
        ("tokenizer.json", b"{}", "tokenizer .* cannot be loaded"),
    ],
)
def test_damaged_files_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=message):
        load(folder)


def test_cut_weights_are_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InvalidRequest, match="is damaged or cut"):
        load(folder)


@pytest.mark.parametrize(
    ("value", "options"), [(float("nan"), {}), (float("-inf"), {}), (1e30, {"dtype": "float16"})], ids=repr
)
def test_weights_that_are_no_numbers_are_named(folder, value, options):
    name, weights = "model.layers.1.mlp.up_proj.weight", load_file(folder / "model.safetensors")
    weights[name][3, 2] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequest, match=rf"hold NaN or infinity, as float\d\d, at '{name}'"):
        load(folder, **options)


def test_weights_that_lack_a_tensor_are_refused_not_filled_with_random_ones(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequest, match=r"lack 1 tensors .* 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        load(folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_files_are_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelNotFound, match=r"config\.json|no weights"):
        load(folder)


def test_a_folder_without_a_tokenizer_is_served_for_ids(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    loaded = load(folder)
    assert loaded.tokenizer is None
    with pytest.raises(InvalidRequest, match="holds no tokenizer: give the prompt as token_ids"):
        tokenize(None, Prompt(text="Hello"), n_vocab=321, problem=loaded.tokenizer_problem)


def test_a_source_that_is_nothing_is_not_found(tmp_path):
    with pytest.raises(ModelNotFound, match=r"neither a folder here, nor an id of the hub .* nor a bundled model"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="is a file, expected the folder"):
        load(tmp_path / "file")


def test_a_hub_model_needs_a_pinned_revision():
    with pytest.raises(InvalidRequest, match="needs a pinned revision: write owner/name@COMMIT"):
        load("owner/name")


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_without_the_hub_the_error_says_what_would_help(monkeypatch, revision, tmp_path):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    monkeypatch.setattr(hub.HfApi, "model_info", offline)
    with pytest.raises(ModelNotFound, match=r"hub cannot be reached.*path of a local folder"):
        load("owner/name", revision=revision)


def test_a_branch_is_resolved_to_the_commit_that_is_loaded(monkeypatch, saved):
    asked = []

    class Info:
        sha = COMMIT

    def download(source, *, revision, allow_patterns, local_files_only=False):
        asked.append((source, revision, local_files_only))
        assert not {"*.bin", "*.py"} & set(allow_patterns)
        return str(saved)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: Info())
    assert load("owner/name", revision="main").revision == COMMIT
    assert load("owner/name", revision=COMMIT).revision == COMMIT
    # what is in the cache is not asked for again
    assert asked == [("owner/name", COMMIT, True)] * 2


def test_what_a_cut_download_left_in_the_cache_is_fetched_again(monkeypatch, saved, tmp_path):
    asked = []
    part = shutil.copytree(saved, tmp_path / "part", ignore=shutil.ignore_patterns("*.safetensors"))

    def download(_source, *, local_files_only=False, **_):
        asked.append(local_files_only)
        return str(part if local_files_only else saved)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert load("owner/name", revision=COMMIT).revision == COMMIT
    assert asked == [True, False]


def test_a_plugin_that_knows_the_source_builds_the_model():
    tiny = tiny_gpt2()

    class Registry:
        def model_for_spec(self, spec, files):
            assert not files.config
            return LoadedModel(tiny.model, tiny.tokenizer, "sha256:own") if spec.source == "own" else None

    loaded = load_model(ModelSpec("own"), Registry())
    assert (loaded.model, loaded.revision) == (tiny.model, "sha256:own")
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


class OwnReader:
    """A plugin that reads the weights of a folder itself, and does ``then`` before it is done."""

    def __init__(self, then=lambda model: None):
        self._then = then

    def model_for_spec(self, spec, files):
        assert files.config["model_type"] == "llama"
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**files.config), dtype=files.dtype)
        for path in files.weights:
            model.load_state_dict(load_file(path))
        self._then(model)
        return files.finished(model)


def test_a_plugin_reads_a_folder_as_it_would_be_read(folder):
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rewrite(folder / "config.json", dtype="bfloat16")
    for dtype in ("auto", "bfloat16"):
        plain, own = (load_model(ModelSpec(str(folder), dtype=dtype), one) for one in (None, OwnReader()))
        assert own.revision == plain.revision
        assert own.tokenizer.get_vocab() == plain.tokenizer.get_vocab()
        for name, weight in plain.model.state_dict().items():
            assert torch.equal(own.model.state_dict()[name], weight)
            assert own.model.state_dict()[name].dtype == weight.dtype


@torch.no_grad()
def test_what_a_plugin_read_is_judged_as_any_other_model(folder):
    with pytest.raises(InvalidRequest, match="hold NaN or infinity, as float32"):
        load_model(ModelSpec(str(folder)), OwnReader(lambda model: model.lm_head.weight.fill_(float("inf"))))
    with pytest.raises(InvalidRequest, match="changed while they were loaded"):
        load_model(ModelSpec(str(folder)), OwnReader(lambda model: (folder / "model.safetensors").touch()))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FeatureUnsupported, match=r"only 'pytorch_model\.bin'"):
        load_model(ModelSpec(str(folder)), OwnReader())


def test_what_is_in_no_folder_has_no_config_and_is_told_to_whoever_goes_on(tmp_path):
    asked = []

    class Registry:
        def model_for_spec(self, spec, files):
            asked.append(dict(files.config))

    (tmp_path / "config.json").write_text("{")
    for source, error in (("no folder", ModelNotFound), (str(tmp_path), InvalidRequest)):
        with pytest.raises(error):
            load_model(ModelSpec(source), Registry())
    assert asked == [{}, {}]


def test_real_models_load(shared):
    for name, n_layers in (("stories260K", 5), ("capp-gpt2", 4)):
        loaded = load(shared / "models" / name)
        assert loaded.model.config.num_hidden_layers == n_layers


@pytest.mark.slow
def test_real_encoder_decoder_models_load_with_a_tokenizer_for_each_side(shared):
    for name, source, target in (("g2p-bart-us", "abc", "ɹ"), ("aren-transliteration", "بغداد", "baghdad")):
        loaded = load(shared / "models" / name)
        assert loaded.model.config.is_encoder_decoder
        assert loaded.tokenizer.unk_token_id not in loaded.tokenizer(source)["input_ids"]
        assert loaded.target_tokenizer.unk_token_id not in loaded.target_tokenizer(target)["input_ids"]


def test_a_bundled_model_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no folder of that name here
    assert load_model(ModelSpec("facts")).model.config.num_hidden_layers == 6
