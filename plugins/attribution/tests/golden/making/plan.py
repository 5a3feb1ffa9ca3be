"""Which methods meet which targets on which model."""

from collections.abc import Iterator

from making.inputs import ENCODER_DECODER, GPT2, LETTERS, LLAMA, PHONEMES, PLANS, STORIES, T5
from making.oracle import Method, Target

FORCED = {"contrast_force_inputs": True}

TARGETS = (
    Target("probability"),
    Target("probability", {"logprob": True}, label="log_probability"),
    Target("logit"),
    Target("entropy"),
    Target("contrast_prob_diff", contrast="foil"),
    Target("contrast_logits_diff", contrast="foil"),
    Target("pcxmi", FORCED, "elsewhere"),
    Target("kl_divergence", FORCED, "elsewhere"),
)
"""What most methods are asked for."""

MORE_TARGETS = (
    Target("contrast_prob", contrast="foil"),
    Target("contrast_logits", contrast="foil"),
    Target("contrast_prob_diff", {"logprob": True}, "foil", "contrast_log_prob_diff"),
    Target("contrast_prob_diff", FORCED, "elsewhere", "contrast_prob_diff-forced"),
    Target("contrast_prob_diff", contrast="short", label="contrast_prob_diff-filled"),
    Target("pcxmi", contrast="foil", label="pcxmi-foil"),
    Target("in_context_pvi", FORCED, "elsewhere"),
    Target("kl_divergence", contrast="elsewhere", label="kl_divergence-unforced"),
    Target("crossentropy"),
    Target("perplexity"),
)
"""What saliency alone is asked for; Inseq refuses the last three."""

FEW_TARGETS = (*TARGETS[:3], *TARGETS[4:6])

EXPANDING = TARGETS[:6]
"""For methods that expand the batch: what is contrasted to another context, Inseq has no way to ask there."""

BLOCKS = {
    GPT2: ("transformer.h.0.mlp", "transformer.h.2.mlp", "transformer.h.3"),
    LLAMA: ("model.layers.0.mlp", "model.layers.2.mlp", "model.layers.3"),
    T5: ("encoder.block.0.layer.1.DenseReluDense", "encoder.block.1.layer.1", "encoder.final_layer_norm"),
    STORIES: ("model.layers.2.mlp",),
    PLANS: ("transformer.h.1.mlp",),
    PHONEMES: ("model.encoder.layers.0.fc2",),
    LETTERS: ("model.encoder.layers.3.fc2",),
}
"""Layers whose output is one tensor in the source's positions."""

IG = {"n_steps": 20, "return_convergence_delta": True}
RULES = ("riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")
NEIGHBOURS = {"n_neighbors": 20, "n_jobs": 1, "save_cache": False}

SALIENCY = Method("saliency")
SIGNED = Method("saliency", call={"abs": False})
GRADIENTS = (
    SALIENCY,
    SIGNED,
    Method("input_x_gradient"),
    Method("integrated_gradients", call=IG),
    Method("gradient_shap", call={"n_samples": 5, "stdevs": 0.0}),
    Method("deeplift", call={"return_convergence_delta": True}),
    Method("sequential_integrated_gradients", call={"n_steps": 5}),
)
OCCLUSION = Method("occlusion")
ONE_ROW = ("saliency", "input_x_gradient", "layer_gradient_x_activation", "occlusion")


def layers(name: str) -> tuple[Method, ...]:
    """The layer methods: the gradient at every layer of the table, the dear ones at the second (or only) one."""
    found = [Method("layer_gradient_x_activation", {"target_layer": layer}) for layer in BLOCKS[name]]
    one = {"target_layer": BLOCKS[name][len(BLOCKS[name]) // 2]}
    found += [Method("layer_integrated_gradients", one, {"n_steps": 10}), Method("layer_deeplift", one)]
    return tuple(found)


def discretized() -> tuple[Method, ...]:
    """Discretized integrated gradients, both ways of walking."""
    name = "discretized_integrated_gradients"
    return tuple(Method(name, NEIGHBOURS, {"n_steps": 6, "method": walk}) for walk in ("greedy", "maxcount"))


def windows(width: int) -> tuple[Method, ...]:
    """Occlusion with other windows and strides."""
    shapes = ((2, 1), (2, 2), (3, 2))
    calls = ({"sliding_window_shapes": (size, width), "strides": (stride, width)} for size, stride in shapes)
    return tuple(Method("occlusion", call=call) for call in calls)


def tiny(name: str) -> Iterator[tuple[Method, tuple[Target, ...]]]:
    """The matrix of a tiny model."""
    for method in (*GRADIENTS, *layers(name), OCCLUSION):
        yield method, TARGETS if method.id in ONE_ROW else EXPANDING
    yield SALIENCY, MORE_TARGETS
    for method in discretized():
        yield method, FEW_TARGETS
    for method in windows(64):
        yield method, TARGETS[:1]
    if name == GPT2:
        for rule in RULES:
            yield Method("integrated_gradients", call={**IG, "method": rule}), TARGETS[:1]
        yield Method("integrated_gradients", {"multiply_by_inputs": False}, {"n_steps": 20}), TARGETS[:1]
        yield Method("sequential_integrated_gradients", {"multiply_by_inputs": False}, {"n_steps": 5}), TARGETS[:1]
        yield Method("discretized_integrated_gradients", NEIGHBOURS, {**IG, "n_steps": 6}), TARGETS[:1]
    if name in ENCODER_DECODER:
        yield from with_target_prefix()


def real(name: str) -> Iterator[tuple[Method, tuple[Target, ...]]]:
    """The matrix of a real model."""
    for method in (SIGNED, *GRADIENTS[2:6], layers(name)[0], OCCLUSION):
        yield method, FEW_TARGETS
    yield SALIENCY, (TARGETS[0], TARGETS[6], TARGETS[7])
    yield GRADIENTS[6], TARGETS[:1]
    if name in ENCODER_DECODER:
        yield from with_target_prefix()


def with_target_prefix() -> Iterator[tuple[Method, tuple[Target, ...]]]:
    """The target's prefix among what is attributed."""
    for method in (*GRADIENTS[1:], OCCLUSION):
        # Inseq wants both sides of one length there
        targets = TARGETS[:1] if method.id == "sequential_integrated_gradients" else FEW_TARGETS
        yield Method(method.id, method.load, method.call, attribute_target=True), targets
