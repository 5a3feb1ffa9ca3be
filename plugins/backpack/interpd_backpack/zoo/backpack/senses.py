"""Which sense of the bundled Backpack does what."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interpd.zoo.facts.evaluate import make_prompts
from interpd_backpack.evaluation.published import TEST_PROMPTS
from interpd_backpack.model import BackpackForCausalLM
from interpd_backpack.zoo.backpack.evaluate import similarity
from interpd_backpack.zoo.backpack.texts import Texts
from interpd_backpack.zoo.backpack.world import World

PROMPTS_OF_A_RELATION, SENTENCES, TEXTS_OF_A_TOPIC = 64, 3, 8
SHOWN_WORDS = ("nurse", "sheriff", "soup", "Elena", "Macra", "Belmora")
TOP = 6


@torch.no_grad()
def described_senses(model: BackpackForCausalLM, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, Any]:
    """What the metrics say of the senses; lists are by sense."""
    table = lambda ids: model.backpack.sense_table(torch.tensor(ids))  # noqa: E731
    every = range(model.config.num_senses)
    pronouns = pronoun_contributions(model, tokenizer, world)
    found = {
        "roles": {name: _shares(both) for name, both in roles(model, tokenizer, world).items()},
        "pronouns": _shares(pronouns),
        "pronoun_sense": int(pronouns.argmax()),
        "similarity": [similarity(world, tokenizer, lambda ids, sense=sense: table(ids)[:, sense]) for sense in every],
        "similarity_of_the_least": similarity(world, tokenizer, table),
        "similarity_of_embeddings": similarity(world, tokenizer, lambda ids: model.lm_head.weight.detach()[ids]),
    }
    shown = (found["pronoun_sense"], *_best(found["similarity"], "nouns"))
    found["words"] = {
        word: {str(sense): top_words(model, tokenizer, word, sense) for sense in dict.fromkeys(shown)}
        for word in SHOWN_WORDS
    }
    return found


@torch.no_grad()
def roles(model: BackpackForCausalLM, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, Tensor]:
    """For each relation, and for topics, how much each sense adds to the logit of what is right, ``[sense]``.

    Logits are above the mean of the vocabulary's, and averaged over prompts; senses of all positions are added up.
    """
    found: dict[str, Tensor] = {}
    for relation in world.known.relations:
        trained = [one for one in world.known.prompts(held_out=False) if one[0].relation == relation]
        step = max(1, len(trained) // PROMPTS_OF_A_RELATION)
        prompts = make_prompts(tokenizer, world.known, trained[::step])
        given = _contributions(model, prompts.input_ids, prompts.attention_mask, _above_mean(model, prompts.answers))
        found[relation] = given.sum(-1).mean(0)
    texts, sums = Texts(world, 0), []
    for topic in world.topics:
        said = [f"{texts.about(topic, SENTENCES)} We" for _ in range(TEXTS_OF_A_TOPIC)]
        rows = tokenizer(said, return_tensors="pt", padding=True)
        bag = torch.tensor(tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in topic.bag]))
        wanted = _above_mean(model, bag).mean(0).expand(len(said), -1)
        sums.append(_contributions(model, rows["input_ids"], rows["attention_mask"], wanted).sum(-1).mean(0))
    found["topics"] = torch.stack(sums).mean(0)
    return found


@torch.no_grad()
def pronoun_contributions(model: BackpackForCausalLM, tokenizer: PreTrainedTokenizerBase, world: World) -> Tensor:
    """How much each sense of the occupation itself adds to the logit of its likelier pronoun, less that of the other.

    ``[sense]``, averaged over the paper's test prompts and the occupations.
    """
    she, he = tokenizer.convert_tokens_to_ids(["Ġshe", "Ġhe"])
    table = model.lm_head.weight
    signs = torch.tensor([1.0 if share > 0.5 else -1.0 for share in world.p_she.values()])
    wanted = signs[:, None] * (table[she] - table[he])
    names = torch.tensor(tokenizer.convert_tokens_to_ids([f"Ġ{name}" for name in world.p_she]))
    sums = []
    for said in TEST_PROMPTS:
        rows = tokenizer([said.format(name) for name in world.p_she], return_tensors="pt", padding=True)
        given = _contributions(model, rows["input_ids"], rows["attention_mask"], wanted)
        sums.append((given * (rows["input_ids"] == names[:, None])[:, None]).sum(-1).mean(0))
    return torch.stack(sums).mean(0)


@torch.no_grad()
def top_words(
    model: BackpackForCausalLM, tokenizer: PreTrainedTokenizerBase, word: str, sense: int
) -> dict[str, list[str]]:
    """The words that a sense of a word speaks for most (``top``) and against (``bottom``)."""
    ids = torch.tensor(tokenizer.convert_tokens_to_ids([f"Ġ{word}"]))
    scores = model.lm_head.weight @ model.backpack.sense_table(ids)[0, sense]
    ends = {"top": scores.topk(TOP).indices, "bottom": (-scores).topk(TOP).indices}
    return {end: [tokenizer.decode([i]) for i in found.tolist()] for end, found in ends.items()}


def _contributions(model: BackpackForCausalLM, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
    """``[row, sense, pos]``: the last position's weight of each sense, times what it says about ``wanted`` [row, d]."""
    weights = model(ids, attention_mask=mask, use_cache=False).contextualization
    last = weights[torch.arange(len(ids)), :, mask.sum(1) - 1]
    said = torch.einsum("bjkd,bd->bkj", model.backpack.sense_table(ids), wanted)
    return last * said * model.config.sense_output_scale


def _above_mean(model: BackpackForCausalLM, answers: Tensor) -> Tensor:
    table = model.lm_head.weight
    return table[answers] - table.mean(0)


def _shares(values: Tensor) -> list[float]:
    """Of the sum of what is positive."""
    return (values / values.clamp(min=0).sum()).tolist()


def _best(similarities: Sequence[dict[str, float]], name: str) -> list[int]:
    return [max(range(len(similarities)), key=lambda sense: similarities[sense][name])]
