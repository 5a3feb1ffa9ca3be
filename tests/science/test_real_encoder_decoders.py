"""The small trained encoder-decoder models, where the folder with them is at hand, as a user meets them."""

import interpd_client as interpd
import numpy as np
import pytest

KNOWN = {
    "g2p-bart-us": {"university": "jˌunəvˈɜɹsəɾi"},
    "aren-transliteration": {"آتزمون": "atzmon", "بغداد": "baghdad"},
}


@pytest.fixture(scope="module")
def client(shared):
    with interpd.local(*(f"{shared / 'models' / name}={name}" for name in KNOWN), dtype="float32") as client:
        yield client


@pytest.mark.parametrize("name", KNOWN)
def test_known_words_come_out_as_known(client, name):
    for word, expected in KNOWN[name].items():
        assert client.model(name).generate_text(word, max_new_tokens=30) == expected


def test_words_of_all_lengths_in_one_batch_come_out_as_alone(client):
    model, words = client.model("g2p-bart-us"), ("university", "a", "hello", "interpretability")
    with model.generate(max_new_tokens=30) as g:
        for word in words:
            g.prompt(word)
    alone = [model.generate_text(word, max_new_tokens=30) for word in words]
    assert [found.text for found in g.result.generated] == alone
    assert "".join(model.stream("university", max_new_tokens=30)) == KNOWN["g2p-bart-us"]["university"]


def test_a_continuation_begins_behind_its_target(client):
    model, whole = client.model("aren-transliteration"), KNOWN["aren-transliteration"]["بغداد"]
    assert model.generate_text("بغداد", target=whole[:3], max_new_tokens=30) == whole[3:]


def test_logits_at_a_position_predict_the_next_token_of_the_target(client):
    model, (word, whole) = client.model("aren-transliteration"), ("بغداد", "baghdad")
    with model.trace(word, target=whole) as t:
        t.save(best=t.logits.argmax(-1), ids=t.decoder_input_ids)
    best, given = t.result["best"][0], t.result["ids"][0]
    assert best[:-1].tolist() == given[1:].tolist()
    assert best[-1] == 53  # the end token of the target side


def test_who_decodes_what_another_word_encodes_writes_that_word(client):
    """The whole of a word's pronunciation goes through the encoder's last stream."""
    model = client.model("g2p-bart-us")
    with model.generate(max_new_tokens=20) as g:
        one, other = g.prompt("stone"), g.prompt("light")
        other.encoder.layers[0].resid_post = one.encoder.layers[0].resid_post
    texts = [found.text for found in g.result.generated]
    assert texts == [model.generate_text("stone", max_new_tokens=20)] * 2


def test_attention_to_the_letters_is_read_at_every_step(client):
    model = client.model("g2p-bart-us")
    with model.generate("hello", max_new_tokens=20) as g:
        g.save(looks=g.decoder.layers[0].cross_attn.pattern[:, :, -1])
    looks, letters = g.result["looks"], g.result.tokens[0].strings
    assert looks.shape == (len(g.result.token_ids), 1, 1, len(letters))
    assert np.abs(looks.sum(-1) - 1).max() < 1e-5
    assert g.result.axes["looks"][-1] == "src_pos"


def test_writes_and_gradients_reach_the_letters(client):
    model = client.model("g2p-bart-us")
    with model.trace("cat") as t:
        t.encoder.embed[:, t.tokens.source("t")] = 0.0
        t.save(changed=t.logits[:, -1])
    with model.trace("cat") as plain:
        embed = plain.encoder.embed
        plain.save(slope=embed.grad_of(plain.logits[0, -1].max(-1).values), logits=plain.logits[:, -1])
    assert plain.result["slope"].shape == (1, 5, 128)
    assert np.abs(plain.result["slope"]).max() > 0
    assert np.abs(t.result["changed"] - plain.result["logits"]).max() > 1e-3


def test_every_canonical_site_passed_its_self_test(client):
    for name in KNOWN:
        assert not [site for site in client.model(name).manifest.absent_sites if "self-test" in site.reason]
