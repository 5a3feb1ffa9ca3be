"""The encoder-decoder models, a sharded one in half precision and adapters, through a real daemon."""

import shutil

import interpd_client
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from interpd.errors import AdapterNotFound, CallerError, InvalidRequest
from interpd.specs import AdapterSpec
from interpd.testing.daemon_process import DaemonProcess
from interpd.testing.tiny_adapters import adapted_by_peft, save_adapter
from interpd.testing.tiny_models import tiny_llama

pytestmark = pytest.mark.ray

KNOWN = {
    "g2p-bart-us": {"university": "jˌunəvˈɜɹsəɾi"},
    "aren-transliteration": {"آتزمون": "atzmon", "بغداد": "baghdad"},
}
CHAT = [{"role": "user", "content": "Where was Elena born?"}]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A model in bfloat16 and many shards, whose tokenizer has a chat template, and an adapter of it."""
    folder = tmp_path_factory.mktemp("families")
    tiny = tiny_llama(folder / "chatty")
    (folder / "chatty" / "model.safetensors").unlink()
    tiny.model.to(torch.bfloat16).save_pretrained(folder / "chatty", max_shard_size="20KB")
    model = AutoModelForCausalLM.from_pretrained(folder / "chatty", dtype=torch.bfloat16).eval()
    assert len(list((folder / "chatty").glob("*.safetensors"))) > 3
    return folder / "chatty", model, save_adapter(folder / "adapter", model), tiny.tokenizer


@pytest.fixture(scope="module")
def client(shared, chatty):
    models = [word for name in KNOWN for word in ("--model", f"{shared / 'models' / name}={name}")]
    with (
        DaemonProcess("interpd", "serve", "--port", "0", *models) as daemon,
        interpd_client.connect(daemon.address, progress=False) as client,
    ):
        adapters = (AdapterSpec("a", str(chatty[2])),)
        client.load(str(chatty[0]), name="chatty", dtype="bfloat16", adapters=adapters)
        yield client


@pytest.mark.parametrize("name", KNOWN)
def test_known_words_come_out_as_known_from_texts_and_from_ids(client, name):
    model = client.model(name)
    for word, expected in KNOWN[name].items():
        assert model.generate_text(word, max_new_tokens=30) == expected
        assert "".join(model.stream(word, max_new_tokens=30)) == expected
        tokens = model.tokenize(word)
        assert model.generate_text(list(tokens.ids), max_new_tokens=30) == expected
    with model.generate(max_new_tokens=30) as g:
        for word in KNOWN[name]:
            g.prompt(word)
    assert [found.text for found in g.result.generated] == list(KNOWN[name].values())


def test_each_side_has_its_own_tokenizer(client):
    model = client.model("aren-transliteration")
    with model.trace("بغداد", target="baghdad") as t:
        look = t.decoder.layers[0].cross_attn.pattern
        t.save(best=t.logits.argmax(-1), ids=t.decoder_input_ids, look=look)
    source = t.result.tokens[0]
    assert t.result["best"][0][:-1].tolist() == t.result["ids"][0][1:].tolist()
    assert t.result["look"].shape[-2:] == (len(source.target.ids), len(source.ids))
    assert t.result.axes["look"][-1] == "src_pos"
    with pytest.raises(CallerError, match="chat"), model.trace(CHAT) as t:
        t.save(logits=t.logits)


def test_texts_chats_and_ids_of_a_sharded_model_in_half_precision(client, chatty):
    _, bare, _, tokenizer = chatty
    model, ids = client.model("chatty"), tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    for prompt in (CHAT, list(ids)):
        with model.trace(prompt) as t:
            t.save(logits=t.logits)
        assert list(t.result.tokens[0].ids) == list(ids)
        expected = bare(torch.tensor([ids])).logits
        assert t.result.provenance.dtype == "bfloat16"
        assert np.array_equal(np.asarray(t.result["logits"]), expected.detach().float().numpy())


def test_an_adapter_is_in_force_for_who_asks_for_it(client, chatty):
    _, bare, folder, _ = chatty
    adapted, model = adapted_by_peft(bare, folder), client.model("chatty")
    found = {}
    for name in ("", "a", ""):
        with model.trace("The cat sat", adapter=name) as t:
            t.save(logits=t.logits)
        ids = torch.tensor([t.result.tokens[0].ids])
        found[name] = np.asarray(t.result["logits"])
        expected = (adapted if name else bare)(ids).logits.detach().float().numpy()
        assert np.abs(found[name] - expected).max() <= 0.05 * np.abs(expected).max()
    assert np.abs(found["a"] - found[""]).max() > 0.1 * np.abs(found[""]).max()
    with pytest.raises(AdapterNotFound, match="no adapter 'b'"), model.trace("The cat sat", adapter="b") as t:
        t.save(logits=t.logits)


def test_tokenizers_that_leave_open_which_is_meant_are_refused(client, shared, tmp_path):
    source = shared / "models" / "g2p-bart-us"
    both, half = tmp_path / "both", tmp_path / "half"
    for folder in (both, half):
        shutil.copytree(source, folder)
    for file in (source / "tokenizer-src").iterdir():
        shutil.copy(file, both / file.name)
    shutil.rmtree(half / "tokenizer-tgt")
    for folder, word in ((both, "tokenizer-src"), (half, "tokenizer-tgt")):
        with pytest.raises(InvalidRequest, match=word):
            client.load(str(folder), name=folder.name)
        client.unload(folder.name)
    assert client.model("g2p-bart-us").generate_text("university", max_new_tokens=30) == "jˌunəvˈɜɹsəɾi"


def test_every_canonical_site_passed_its_self_test(client):
    for name in (*KNOWN, "chatty"):
        assert not [site for site in client.model(name).manifest.absent_sites if "self-test" in site.reason]
