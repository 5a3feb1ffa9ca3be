"""Captum 0.9, where Inseq has nothing: ablation, Shapley values, layers, noise. Decoder-only models.

Its wrapper for language models runs with ``forward_in_tokens=False``: with outputs kept between tokens, its default, it
gives other numbers on this transformers. The prompt's tokens are the features; rows are the sequence's log-probability,
then that of each token.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from captum.attr import (
    FeatureAblation,
    InternalInfluence,
    KernelShap,
    LayerConductance,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    LLMAttribution,
    LLMGradientAttribution,
    NoiseTunnel,
    Saliency,
    ShapleyValues,
    ShapleyValueSampling,
    TextTokenInput,
)
from torch import Tensor
from transformers import PreTrainedModel

from making import inputs, oracle, plan
from making.matrix import about
from making.oracle import Method
from making.records import Records

MODELS = (inputs.GPT2, inputs.LLAMA, inputs.STORIES, inputs.PLANS)
N_STEPS = 20
NOISE = 0.05


def make() -> Iterator[Records]:
    """The records of every decoder-only model."""
    for name in MODELS:
        yield _of(name)


def _of(name: str) -> Records:
    made = Records(f"{name}.captum")
    made.about = about(name, oracle.load(name, Method("dummy")))
    model = inputs.model(name)
    _add_language(made, name, model)
    _add_layers(made, name, model)
    _add_noise(made, model)
    return made


def _ids(made: Records) -> tuple[Tensor, Tensor]:
    whole = made.about["sequences"]["target"]["ids"]
    start = len(made.about["sequences"]["source"]["ids"])
    return torch.tensor([whole[:start]]), torch.tensor(whole[start:])


def _add_language(made: Records, name: str, model: PreTrainedModel) -> None:
    """Perturbations of the prompt, whose tokens become the unknown token."""
    tokenizer = inputs.tokenizer(name)
    prompt, wanted = _ids(made)
    texts = TextTokenInput(inputs.TEXTS[name].source, tokenizer, baselines=tokenizer.unk_token_id)
    assert texts.inp_tensor.tolist() == prompt.tolist(), name
    for label, method, options in (
        ("feature_ablation", FeatureAblation(model), {}),
        # as many calls as the prompt has permutations, times its length
        ("shapley_exact", ShapleyValues(model), {}),
        ("shapley_sampling", ShapleyValueSampling(model), {"n_samples": 25}),
        ("kernel_shap", KernelShap(model), {"n_samples": 200}),
    ):
        if label == "shapley_exact" and prompt.shape[1] > 6:
            continue
        for target in ("log_prob", "prob")[: 2 if label == "feature_ablation" else 1]:
            oracle.seed()
            found = LLMAttribution(method, tokenizer, attr_target=target).attribute(
                texts, target=wanted, forward_in_tokens=False, use_cached_outputs=False, **options
            )
            made.add(
                {"id": f"{label}/{target}", "method": label, "arguments": options, "target": target}, _scores(found)
            )
    embedding = model.get_input_embeddings()
    for label, method, options in (
        ("layer_integrated_gradients", LayerIntegratedGradients(model, embedding), {"n_steps": N_STEPS}),
        ("layer_gradient_x_activation", LayerGradientXActivation(model, embedding), {}),
    ):
        found = LLMGradientAttribution(method, tokenizer).attribute(texts, target=wanted, **options)
        made.add(
            {"id": f"{label}/log_prob", "method": label, "arguments": options, "target": "log_prob"}, _scores(found)
        )


def _scores(found: object) -> dict[str, np.ndarray]:
    arrays = {"sequence": found.seq_attr, "tokens": found.token_attr}
    return {name: array.detach().numpy() for name, array in arrays.items() if array is not None}


def _vectors(scores: Tensor, made: Records) -> dict[str, np.ndarray]:
    """Vectors of a tiny model; elsewhere sums, which say little where a layer norm takes the mean away."""
    rows = scores.detach().numpy()[0]
    if made.about["model"] == inputs.GPT2:
        return {"vectors": rows}
    return {"sum": rows.sum(-1), "sum_abs": abs(rows).sum(-1)}


def _log_probability(model: PreTrainedModel, wanted: int, vectors: Tensor) -> Tensor:
    """The log-probability of one token after the embedded sequence."""
    return model(inputs_embeds=vectors).logits[:, -1].log_softmax(-1)[:, wanted]


def _add_layers(made: Records, name: str, model: PreTrainedModel) -> None:
    """Conductance and the like: for the first and the last token of the continuation, from the unknown token."""
    whole = torch.tensor([made.about["sequences"]["target"]["ids"]])
    start = len(made.about["sequences"]["source"]["ids"])
    embed = model.get_input_embeddings()
    for step in (start, whole.shape[1] - 1)[name == inputs.GPT2 :]:
        given = embed(whole[:, :step]).detach()
        nothing = embed(torch.full_like(whole[:, :step], made.about["baseline_id"])).detach()
        forward = partial(_log_probability, model, int(whole[0, step]))
        for layer in plan.BLOCKS[name]:
            module = model.get_submodule(layer)
            for label, method in _layer_methods(forward, module).items():
                scores = method(given, nothing)
                told = {"method": label, "layer": layer, "step": step, "arguments": {"n_steps": N_STEPS}}
                made.add({"id": f"{label}/{layer}/{step}", **told}, _vectors(scores, made))


def _layer_methods(
    forward: Callable[[Tensor], Tensor], module: torch.nn.Module
) -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    steps = {"n_steps": N_STEPS}
    return {
        "layer_conductance": lambda x, b: LayerConductance(forward, module).attribute(x, b, **steps),
        "internal_influence": lambda x, b: InternalInfluence(forward, module).attribute(x, b, **steps),
        "layer_integrated_gradients": lambda x, b: LayerIntegratedGradients(forward, module).attribute(x, b, **steps),
    }


def _add_noise(made: Records, model: PreTrainedModel) -> None:
    """The noise tunnel on signed saliency; what was drawn is written too, so that a test can add the same noise."""
    whole = torch.tensor([made.about["sequences"]["target"]["ids"]])
    step = whole.shape[1] - 1
    given = model.get_input_embeddings()(whole[:, :step]).detach()
    forward = partial(_log_probability, model, int(whole[0, step]))
    tunnel = NoiseTunnel(Saliency(forward))
    for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
        for noise in (0.0, NOISE):
            oracle.seed()
            options = {"nt_type": kind, "nt_samples": 6, "stdevs": noise}
            scores = tunnel.attribute(given, abs=False, **options)
            told = {"method": kind, "arguments": options, "step": step}
            made.add({"id": f"{kind}/{noise}", **told}, _vectors(scores, made))
    oracle.seed()
    drawn = torch.normal(0, torch.full((6, *given.shape[1:]), NOISE))
    if made.about["model"] == inputs.GPT2:
        made.add({"id": "noise", "method": "noise", "arguments": {"stdevs": NOISE}}, {"noise": drawn.numpy()})
