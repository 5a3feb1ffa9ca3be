"""What parts add to a logit, against GPT-2 and LLaMA taken apart by hand; and the sums that must hold everywhere."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import interpd_client
from interpd.errors import InterpdError
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker

SEQUENCE = (5, 40, 77, 120, 33, 9, 210, 64)
FOIL = (5, 40, 78, 121, 34, 10, 211, 65)
OTHERS = ("gpt_neox", "qwen3", "gemma2", "gemma3", "olmo2", "phi", "cohere", "gpt_neo", "opt", "t5_gated", "pegasus")
"""Parallel blocks, norms of heads, norms behind branches, caps, factors, biases of logits, two stacks."""


def close(found, expected, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)


@dataclass(frozen=True)
class Apart:
    """A bare model's own pass over the sequence, float64."""

    weights: Tensor
    """``[layer head query key]``."""
    values: Tensor
    """``[layer key head d_head]``."""
    projections: Tensor
    """``[layer head d_head d_model]``."""
    biases: Tensor
    """``[layer d_model]`` of the projections."""
    streams: Tensor
    """``[layer pos d_model]`` into each layer, and into the final norm."""
    mlps: Tensor
    """``[layer pos d_model]``."""
    embed: Tensor
    """``[pos d_model]``."""

    @property
    def moved(self) -> Tensor:
        """What each head moves, ``[layer head query key d_model]``."""
        return torch.einsum("lhqk,lkhe,lhed->lhqkd", self.weights, self.values, self.projections)


def apart(world):
    model, is_gpt2 = world.model, world.architecture == "gpt2"
    blocks = model.transformer.h if is_gpt2 else model.model.layers
    kept = {}

    def keep(name):
        def hook(module, args, output):
            kept[name] = (output[0] if isinstance(output, tuple) else output)[0].double()

        return hook

    hooked = [(f"mlp{number}", block.mlp) for number, block in enumerate(blocks)]
    for number, block in enumerate(blocks):
        hooked.append((f"v{number}", block.attn.c_attn if is_gpt2 else block.self_attn.v_proj))
    hooked.append(("embed", model.get_input_embeddings()))
    handles = [module.register_forward_hook(keep(name)) for name, module in hooked]
    norm = model.transformer.ln_f if is_gpt2 else model.model.norm
    handles.append(norm.register_forward_pre_hook(lambda module, args: kept.update(last=args[0][0].double())))
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = model(torch.tensor([SEQUENCE]), output_attentions=True, output_hidden_states=True)
    finally:
        model.set_attn_implementation("sdpa")
        for handle in handles:
            handle.remove()
    n, outs = len(blocks), [block.attn.c_proj if is_gpt2 else block.self_attn.o_proj for block in blocks]
    values = [kept[f"v{number}"] for number in range(n)]
    if is_gpt2:
        heads = [value.split(24, -1)[2].unflatten(-1, (4, 6)) for value in values]
    else:
        heads = [value.unflatten(-1, (2, 10)).repeat_interleave(2, 1) for value in values]
    matrices = [(one.weight if is_gpt2 else one.weight.T).detach().double().unflatten(0, (4, -1)) for one in outs]
    biases = [torch.zeros(24) if one.bias is None else one.bias.detach() for one in outs]
    streams = [*(hidden[0].double() for hidden in out.hidden_states[:n]), kept["last"]]
    return Apart(
        torch.cat(out.attentions).double(),
        torch.stack(heads),
        torch.stack(matrices),
        torch.stack(biases).double(),
        torch.stack(streams),
        torch.stack([kept[f"mlp{number}"] for number in range(n)]),
        kept["embed"],
    )


def frozen(world, stream, vectors):
    """``vectors`` through the final norm at the scale that it has for ``stream``, without its bias."""
    if world.architecture == "gpt2":
        norm = world.model.transformer.ln_f
        scale = (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        vectors = vectors - vectors.mean(-1, keepdim=True)
    else:
        norm = world.model.model.norm
        scale = (stream.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return vectors * scale * norm.weight.detach()


def towards(world, stream, vectors, foil=None):
    """What ``vectors [... pos d_model]`` add to the logit of the token behind each position, ``[... step]``."""
    rows = world.model.get_output_embeddings().weight.detach().double()
    wanted = rows[list(SEQUENCE[1:])] - (0 if foil is None else rows[list(foil[1:])])
    return (frozen(world, stream, vectors)[..., :-1, :] * wanted).sum(-1).numpy()


@pytest.fixture(params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def one_sided(request):
    """A tiny decoder-only model that ``apart`` knows."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("foil", [None, FOIL])
def test_parts_are_those_of_the_model_taken_apart(one_sided, foil):
    contrast = {} if foil is None else {"contrast_ids": foil, "target": "contrast_logits_diff"}
    parts, out = apart(one_sided), one_sided.trace("direct_logit_attribution", **contrast)
    last = parts.streams[-1]
    heads = towards(one_sided, last, parts.moved.sum(3), foil)
    close(out.heads, heads)
    by_position = parts.moved.permute(0, 1, 3, 2, 4)
    close(np.nan_to_num(out.scores), towards(one_sided, last, by_position, foil))
    close(out.mlps, towards(one_sided, last, parts.mlps, foil))
    close(out.biases, towards(one_sided, last, parts.biases[:, None].expand_as(parts.mlps), foil))
    close(out.embed, towards(one_sided, last, parts.embed, foil))
    close(out.positions, towards(one_sided, last, parts.streams[0] - parts.embed, foil))


def total_of(out):
    parts = (out.heads.sum((0, 1)), out.cross_heads.sum((0, 1)), out.mlps.sum(0), out.biases.sum(0))
    return sum(parts) + out.embed + out.positions + out.readout


def check_sums(ask):
    """Parts add up to the logit, scores by feature to heads, and what is traced back, with biases, to the logit."""
    out = ask("direct_logit_attribution")
    close(total_of(out), out.logits)
    np.testing.assert_allclose(out.deltas, 0, atol=1e-5)
    heads = out.heads.sum((0, 1)) + out.cross_heads.sum((0, 1))
    close(np.nansum(out.scores, (0, 1, 2)), heads)
    traced = ask("alti_logit")
    close(np.nansum(traced.scores, 0) + traced.biases, out.logits)
    np.testing.assert_allclose(traced.deltas, 0, atol=1e-5)
    logits = ask("saliency", target="logit", step_scores=("logit",)).step_scores[0]
    close(out.logits, logits)


def test_parts_add_up_to_the_logit(gpt2):
    check_sums(gpt2.trace)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", OTHERS)
def test_parts_add_up_in_every_family(architecture):
    tiny = tiny_model(architecture)
    sides = {"target": [50, 60, 70]} if tiny.model.config.is_encoder_decoder else {}
    with interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client:

        def ask(method, **constants):
            with client.model("tiny").trace(list(SEQUENCE), **sides) as t:
                t.save(out=t.op(f"attribution.{method}", **constants))
            return t.result["out"]

        check_sums(ask)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-9), (torch.bfloat16, 0.1)])
def test_sums_are_as_exact_as_the_dtype(dtype, most):
    # LLaMA's norms compute in float32 whatever the dtype
    tiny = tiny_model("gpt2")
    with interpd_client.local(
        (tiny.model.to(dtype), tiny.tokenizer), plugins={"attribution": worker}, name="tiny"
    ) as client:
        with client.model("tiny").trace(list(SEQUENCE)) as t:
            t.save(out=t.op("attribution.direct_logit_attribution"), traced=t.op("attribution.alti_logit"))
        assert np.abs(t.result["out"].deltas).max() < most
        assert np.abs(t.result["traced"].deltas).max() < most + 1e-6


def test_spans_are_sums_and_layers_and_heads_are_reduced_where_the_model_is(gpt2):
    whole = gpt2.trace("direct_logit_attribution", start=3)
    span = gpt2.trace("direct_logit_attribution", start=3, span=True, heads_reduce="sum", layers=(0, 2))
    close(span.logits, whole.logits.sum(-1, keepdims=True))
    close(span.heads, whole.heads.sum(-1, keepdims=True))
    close(np.nan_to_num(span.scores[:, 0]), np.nansum(whole.scores[[0, 2]], (1, -1))[..., None])


def test_what_the_graph_writes_into_the_stream_is_told(gpt2):
    with gpt2.prompt() as t:
        t.layers[1].resid_post = t.layers[1].resid_post + 1.0
        t.layers[2].mlp.out = t.layers[2].mlp.out * 2
        t.save(out=t.op("attribution.direct_logit_attribution"), logits=t.logits)
    out, logits = t.result["out"], t.result["logits"][0, range(7), SEQUENCE[1:]]
    close(out.logits, logits)
    close(total_of(out) + out.deltas[0], logits)


def shares_of(parts):
    """ALTI's shares of each layer, by hand."""
    found = []
    for moved, stream, bias in zip(parts.moved, parts.streams, parts.biases, strict=False):
        vectors = moved.sum(0) + torch.diag_embed(stream.T).permute(1, 2, 0)
        y = vectors.sum(1) + bias
        shares = (y.abs().sum(-1)[:, None] - (y[:, None] - vectors).abs().sum(-1)).clamp(min=0)
        found.append(shares / shares.sum(-1, keepdim=True))
    return found


def test_alti_is_the_product_of_contributions(one_sided):
    first, second, third = shares_of(apart(one_sided))
    close(np.nan_to_num(one_sided.trace("alti").scores), (third @ second @ first)[:-1].T.numpy())


def test_alti_logit_is_what_layers_add_traced_back(one_sided):
    parts = apart(one_sided)
    last, rolled = parts.streams[-1], torch.eye(8, dtype=torch.float64)
    layers = [towards(one_sided, last, parts.streams[0])[:, None] * rolled[:-1].numpy()]
    for moved, mlp, shares in zip(parts.moved, parts.mlps, shares_of(parts), strict=True):
        attention = towards(one_sided, last, moved.sum(0).transpose(0, 1)).T @ rolled.numpy()
        rolled = shares @ rolled
        layers.append(attention + towards(one_sided, last, mlp)[:, None] * rolled[:-1].numpy())
    expected = np.stack(layers).transpose(0, 2, 1)
    close(np.nan_to_num(one_sided.trace("alti_logit_layers").scores), expected)
    close(np.nan_to_num(one_sided.trace("alti_logit").scores), expected.sum(0))
    chosen = one_sided.trace("alti_logit_layers", layers=(-1, 0), layers_reduce="sum").scores[0]
    close(np.nan_to_num(chosen), expected[[0, -1]].sum(0))


def test_attention_alone_is_the_papers_and_the_rest_is_told(gpt2):
    whole, layers = gpt2.trace("alti_logit", parts="attention"), gpt2.trace("alti_logit_layers", parts="attention")
    parts = gpt2.trace("direct_logit_attribution")
    close(np.nansum(whole.scores, 0), parts.heads.sum((0, 1)))
    close(np.nansum(layers.scores, 1), np.concatenate([np.zeros((1, 7)), parts.heads.sum(1)]))
    close(whole.deltas[0], parts.mlps.sum(0) + parts.embed + parts.positions)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bart", "opt_post_norm"])
def test_norms_behind_sums_are_refused(architecture):
    tiny = tiny_model(architecture)
    sides = {"target": [50, 60]} if tiny.model.config.is_encoder_decoder else {}
    with (
        interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client,
        pytest.raises(InterpdError, match="stands behind a norm of the sum"),
        client.model("tiny").trace([5, 6, 7], **sides) as t,
    ):
        t.save(out=t.op("attribution.direct_logit_attribution"))


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"span": True, "contrast_ids": FOIL, "contrast_start": 3}, "contrast token by token"),
        ({}, "contrasts with a foil"),
    ],
)
def test_foils_that_cannot_be_are_refused(gpt2, constants, message):
    with pytest.raises(InterpdError, match=message):
        gpt2.trace("alti_logit", target="contrast_logits_diff", **constants)


def test_a_difference_from_several_foils_is_the_mean_of_differences(gpt2):
    foils = (FOIL, tuple(reversed(FOIL)))
    contrast = {"contrast_ids": (*foils[0], *foils[1]), "contrast_lengths": (8, 8), "target": "contrast_logits_diff"}
    each = [gpt2.trace("alti_logit", contrast_ids=foil, target="contrast_logits_diff").scores for foil in foils]
    found = gpt2.trace("alti_logit", **contrast)
    close(found.scores, (each[0] + each[1]) / 2)
    logits = gpt2.trace("direct_logit_attribution", **contrast).logits
    close(np.nansum(found.scores, 0) + found.biases, logits)


def test_attention_that_the_graph_takes_away_leaves_the_stream_to_alti(gpt2):
    with gpt2.prompt() as t:
        for layer in t.layers:
            layer.attn.pattern = layer.attn.pattern * 0
        t.save(out=t.op("attribution.alti"))
    close(np.nan_to_num(t.result["out"].scores), np.eye(8)[:, :-1])


@pytest.mark.slow
def test_a_bias_of_logits_is_no_factor_for_a_single_token():
    tiny = tiny_model("pegasus")
    tiny.model.final_logits_bias.copy_(torch.linspace(-2, 2, tiny.model.config.vocab_size)[None])
    method = "attribution.direct_logit_attribution"
    with (
        interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client,
        client.model("tiny").trace(list(SEQUENCE), target=[50, 60]) as t,
    ):
        t.save(each=t.op(method), last=t.op(method, start=2))
    each, last = t.result["each"], t.result["last"]
    close(last.mlps[:, 0], each.mlps[:, -1])
    close(last.heads[..., 0], each.heads[..., -1])
    close(total_of(last), last.logits)
