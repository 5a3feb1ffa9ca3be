"""Training on one's own text: what is minimised, what is held out, and that interruptions change nothing."""

import dataclasses
import json

import pytest
import torch

import interpd_client
from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.model import BackpackForCausalLM
from interpd_backpack.training.data import Tokens
from interpd_backpack.training.loss import next_token_logits, next_token_loss
from interpd_backpack.training.running import made, train
from interpd_backpack.training.settings import Shape, Steps, TrainSettings
from interpd_backpack.training.vocabulary import tokenizer_for

TEXT = "the cat sat on the mat; a dog sat by the door. " * 20
SHAPE = Shape(n_embd=12, n_layer=2, n_head=2, n_positions=8, num_senses=3)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    steps = Steps(steps=6, rows=4, learning_rate=1e-2, warm_up=2)
    return TrainSettings(
        files=(tmp_path / "text.txt",), out=tmp_path / "out", shape=SHAPE, steps=steps, told_every=1, saved_every=3
    )


def silent(_line):
    pass


def weights(folder):
    return BackpackForCausalLM.from_pretrained(folder).state_dict()


def test_senses_computed_once_for_each_token_give_the_models_own_logits(settings):
    tokenizer = tokenizer_for("char", [TEXT], 0)
    torch.manual_seed(0)
    config = made(settings, tokenizer).config
    config.sense_output_scale = 1 / 3
    model = BackpackForCausalLM(config).double().eval()
    ids = torch.randint(len(tokenizer), (3, 7))
    assert (next_token_logits(model, ids) - model(ids).logits).abs().max() < 1e-12
    wanted = model(ids, labels=ids).loss
    assert next_token_loss(model, ids).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_training_that_was_interrupted_and_resumed_gives_the_very_weights(settings, tmp_path):
    whole = train(settings, say=silent)
    interrupted = dataclasses.replace(settings, out=tmp_path / "again")

    def interrupt(line):
        if "after     4 steps" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(interrupted, say=interrupt)
    with pytest.raises(InvalidRequest, match="is not empty: resume its training"):
        train(interrupted, say=silent)
    again = train(interrupted, resume=True, say=silent)
    assert again.curve == whole.curve
    one, other = weights(whole.folder), weights(again.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_says_so(settings, capsys):
    said = []
    trained = train(settings, say=said.append)
    losses = [loss for _, loss in trained.curve]
    assert losses[-1] < losses[0]
    assert (
        said[-1] == f"after     6 steps  held-out loss {losses[-1]:.4f}, perplexity {trained.held_out_perplexity:.2f}"
    )
    assert capsys.readouterr().out.startswith("step     0/6  loss")
    record = json.loads((trained.folder / "training.json").read_text())
    assert record["held_out_loss"] == losses[-1] == trained.held_out_loss
    assert record["parameters"] == trained.parameters


def test_a_twin_is_a_gpt2_of_the_same_shape(settings):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained = train(dataclasses.replace(settings, is_twin=True), say=silent)
    twin, tokenizer = (kind.from_pretrained(trained.folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert (twin.config.model_type, twin.config.n_layer, twin.config.n_embd) == ("gpt2", 2, 12)
    assert tokenizer.decode(tokenizer("a dog; the cat")["input_ids"]) == "a dog; the cat"


@pytest.mark.parametrize(
    ("name", "text", "length"),
    [("char", "the dog\n", None), ("byte", "naïve\t木\r\n", 12), ("word", "the cat sat. a mat", 6)],
)
def test_texts_come_back_from_their_tokens(name, text, length):
    tokenizer = tokenizer_for(name, [TEXT + "\n"], 50)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert length is None or len(ids) == length
    assert tokenizer.unk_token_id not in ids


def test_words_that_are_rare_and_unknown_characters_are_unknown():
    assert tokenizer_for("word", ["a a a b b c"], 2)("a b c").input_ids[-1] == 2
    assert tokenizer_for("char", ["ab"], 0)("az").input_ids == [3, 2]


def test_the_last_part_is_held_out_and_each_of_its_tokens_predicted_once():
    text = "".join(chr(97 + i % 26) for i in range(400))
    tokens = Tokens(tokenizer_for("char", [text], 0), [text], 0.25, 9)
    assert len(tokens.trained) == 300
    predicted = torch.cat([part[:, 1:].flatten() for part in tokens.held_out_windows(4, 100)])
    assert torch.equal(predicted, tokens.held_out[1:97])
    windows = tokens.windows(5, seed=1, step=2)
    assert torch.equal(windows, tokens.windows(5, seed=1, step=2))
    assert not torch.equal(windows, tokens.windows(5, seed=1, step=3))


@pytest.mark.slow
def test_it_learns_to_write_letters_of_shakespeare(shared, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text((shared / "data" / "tinyshakespeare" / "input.txt").read_text()[:200_000])
    shape = Shape(n_embd=48, n_layer=2, n_head=2, n_positions=48, num_senses=4)
    steps = Steps(steps=200, rows=12, learning_rate=6e-3, warm_up=20)
    trained = train(TrainSettings(files=(text,), out=tmp_path / "out", shape=shape, steps=steps), say=silent)
    # 3.3 nats are what the frequencies of letters alone give
    assert trained.held_out_loss < 2.65
    with interpd_client.local(str(trained.folder), plugins=("backpack",)) as client:
        model = client.model(client.models()[0].name)
        with model.generate("ROMEO:", max_new_tokens=20) as g:
            pass
        assert len(g.result.text) == 20
        assert model.backpack.senses("=R", top=3).senses == (0, 1, 2, 3)


def test_what_cannot_be_trained_on_is_refused(settings, tmp_path):
    with pytest.raises(InvalidRequest, match="has no checkpoint to go on from"):
        train(settings, resume=True, say=silent)
    train(settings, say=silent)
    weights_file = settings.out / "checkpoint" / "weights.safetensors"
    whole = weights_file.read_bytes()
    weights_file.write_bytes(whole[:-100])
    with pytest.raises(InvalidRequest, match=r"weights.safetensors' is damaged"):
        train(settings, resume=True, say=silent)
    weights_file.write_bytes(whole)
    other = dataclasses.replace(settings, steps=dataclasses.replace(settings.steps, rows=5))
    with pytest.raises(InvalidRequest, match=r"of another training: rows was 4 and is 5$"):
        train(other, resume=True, say=silent)
    (tmp_path / "text.txt").write_text(TEXT.replace("cat", "cow"))
    with pytest.raises(InvalidRequest, match="of another training: the texts are others"):
        train(dataclasses.replace(settings, tokenizer="char"), resume=True, say=silent)
    (tmp_path / "text.txt").write_text("short")
    with pytest.raises(InvalidRequest, match="tokens would be trained on; one window needs 9"):
        train(dataclasses.replace(settings, out=tmp_path / "o"), say=silent)
    with pytest.raises(InvalidRequest, match="expected one of char, byte, word, or a folder"):
        train(dataclasses.replace(settings, out=tmp_path / "o", tokenizer="bpe"), say=silent)
    with pytest.raises(CallerError, match="n_embd 12 is no multiple of n_head 5"):
        Shape(n_embd=12, n_head=5)
