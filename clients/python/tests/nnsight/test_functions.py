"""Functions, methods and operators of torch in a block: each gives what it gives on real tensors."""

import math

import torch
import torch.nn.functional as F

PROMPT = "Elena Marsh was born in"

IDS = torch.tensor([3, 1, 2])
MATRIX = torch.linspace(-1, 1, 24 * 24).reshape(24, 24).sin()
MASK = torch.arange(24) % 3 == 0
LINEAR = torch.nn.Linear(24, 7)
NORM = torch.nn.LayerNorm(24)

ELEMENTWISE = {
    "operators": lambda h, g: (h + 1) * 2 - g / 3,
    "reflected operators": lambda h, g: 1 - (2 / (h * h + 1)) + 2 ** h.clamp(-2, 2),
    "integer division": lambda h, g: (h // 0.3, h % 0.7, 5 // (g.abs() + 1)),
    "comparisons": lambda h, g: ((h > g) & (h < 1)) | ~(h >= 0),
    "equality": lambda h, g: (h == g, h != 0, g.eq(0)),
    "unary": lambda h, g: (-h, +h, abs(h), h.neg(), h.abs().sqrt(), h.exp(), torch.log1p(h.abs())),
    "trigonometry": lambda h, g: (h.sin(), h.cos(), torch.tanh(h), h.sigmoid(), torch.erf(h)),
    "rounding": lambda h, g: (h.round(), h.floor(), h.ceil(), h.trunc(), h.sign(), h.frac()),
    "activations": lambda h, g: (F.relu(h), F.gelu(h), F.silu(h), F.leaky_relu(h, 0.1), F.elu(h), F.softplus(h)),
    "approximate gelu": lambda h, g: F.gelu(h, approximate="tanh"),
    "clamping": lambda h, g: (h.clamp(-1, 1), h.clamp(min=0), torch.clamp(h, max=g), h.clip(-0.5, 0.5)),
    "choosing": lambda h, g: (torch.where(h > 0, h, g), torch.where(h > 0, h, 0.0), h.where(MASK, g)),
    "masking": lambda h, g: (h.masked_fill(MASK, 0), h.masked_fill(h > 1, -math.inf), h * MASK),
    "extremes": lambda h, g: (torch.maximum(h, g), torch.max(h, g), torch.minimum(h, torch.zeros(24))),
    "alpha": lambda h, g: (torch.add(h, g, alpha=2), h.sub(g, alpha=0.5), torch.addcmul(h, g, g, value=0.1)),
    "division modes": lambda h, g: (torch.div(h, 0.3, rounding_mode="floor"), torch.div(h, 0.3, rounding_mode="trunc")),
    "finiteness": lambda h, g: (h.isnan(), torch.isfinite(h), (h / 0).nan_to_num(1.0, 2.0, 3.0)),
    "interpolation": lambda h, g: torch.lerp(h, g, 0.25),
    "closeness": lambda h, g: torch.isclose(h, h + 1e-7),
}

REDUCTIONS = {
    "sums": lambda h, g: (h.sum(), h.sum(-1), h.sum((0, 1), keepdim=True), torch.sum(h, dim=1)),
    "means": lambda h, g: (h.mean(), h.mean(dim=-1), h.mean(axis=1, keepdims=True), h.nanmean()),
    "spread": lambda h, g: (h.std(), h.var(-1), h.std(dim=1, unbiased=False), torch.std_mean(h, dim=-1)),
    "norms": lambda h, g: (
        h.norm(),
        h.norm(dim=-1),
        h.norm(p=1, dim=1),
        torch.linalg.norm(h, dim=-1),
        torch.dist(h, g),
    ),
    "greatest": lambda h, g: (h.max(), h.max(-1), h.amax((0, 1)), h.argmax(), h.argmax(-1), torch.min(h, dim=1)),
    "order": lambda h, g: (h.topk(3), h.topk(2, dim=1, largest=False), h.sort(-1, descending=True), h.argsort(1)),
    "middle": lambda h, g: (h.median(), h.median(-1), h.quantile(0.3), h.kthvalue(2, dim=-1)),
    "truth": lambda h, g: ((h > 0).any(), (h > 0).all(-1), (h > 0).sum(-1), torch.count_nonzero(h > 0)),
    "running": lambda h, g: (h.cumsum(1), h.cumprod(-1), torch.diff(h, dim=1)),
    "exponentials": lambda h, g: (h.softmax(-1), F.log_softmax(h, dim=1), h.logsumexp(-1), torch.softmax(h, 0)),
    "normalising": lambda h, g: (F.normalize(h, dim=-1), F.layer_norm(h, (24,)), NORM(h), F.rms_norm(h, (24,))),
    "similarity": lambda h, g: (F.cosine_similarity(h, g, dim=-1), F.pairwise_distance(h, g), torch.cdist(h, g)),
    "losses": lambda h, g: (F.mse_loss(h, g), F.l1_loss(h, g, reduction="sum"), F.smooth_l1_loss(h, g)),
    "classes": lambda h, g: (F.cross_entropy(h[0, :3], IDS), F.nll_loss(h[0, :3].log_softmax(-1), IDS)),
    "divergence": lambda h, g: F.kl_div(h.log_softmax(-1), g.softmax(-1), reduction="batchmean"),
    "probabilities": lambda h, g: F.binary_cross_entropy_with_logits(h, g.sigmoid()),
}

PRODUCTS = {
    "matrices": lambda h, g: (h @ MATRIX, MATRIX @ h[0, 0], torch.matmul(h, g.mT), h[0].mm(MATRIX), h[0] @ g[0].T),
    "batches": lambda h, g: (torch.bmm(h, g.transpose(1, 2)), torch.baddbmm(torch.zeros(1, 1, 1), h, g.mT)),
    "vectors": lambda h, g: (h[0, 0] @ g[0, 0], torch.dot(h[0, 0], g[0, 1]), torch.outer(h[0, 0], g[0, 0])),
    "einsum": lambda h, g: (torch.einsum("bpd,bqd->bpq", h, g), torch.einsum("bpd,de->bpe", h, MATRIX)),
    "layers": lambda h, g: (LINEAR(h), F.linear(h, MATRIX), torch.nn.ReLU()(h)),
    "affine": lambda h, g: (torch.addmm(torch.ones(24), h[0], MATRIX), torch.tensordot(h, MATRIX, dims=1)),
    "attention": lambda h, g: F.scaled_dot_product_attention(h, g, h, is_causal=True),
}

SHAPES = {
    "reshaping": lambda h, g: (h.view(-1), h.reshape(11, 4, 6), h.flatten(1), h.unflatten(-1, (4, 6)), h.ravel()),
    "sizes of one": lambda h, g: (h.squeeze(), h.squeeze(0), h.unsqueeze(1), h[None], h[..., None]),
    "order of dimensions": lambda h, g: (
        h.transpose(0, 1),
        h.permute(2, 0, 1),
        h.movedim(-1, 0),
        h.mT,
        h[0].T,
        h[0].t(),
    ),
    "expanding": lambda h, g: (h.expand(3, -1, -1), h.repeat(2, 1, 1), h.tile(2), h.repeat_interleave(2, dim=1)),
    "pieces": lambda h, g: (
        h.split(8, -1),
        h.chunk(3, dim=1),
        h.unbind(0),
        torch.tensor_split(h, 2, dim=1),
        h.narrow(1, 2, 3),
    ),
    "joining": lambda h, g: (
        torch.cat([h, g], 1),
        torch.stack([h, g]),
        torch.cat((h, torch.ones(1, 2, 24)), dim=1),
        torch.hstack([h, g]),
    ),
    "indexing": lambda h, g: (h[0], h[:, -1], h[..., ::2], h[0, 2:5, None], h[:, [0, -1]], h[:, IDS], h[0, IDS, IDS]),
    "masks": lambda h, g: (h[..., MASK], h[:, torch.tensor([True] * 3 + [False] * 8)]),
    "index tensors": lambda h, g: (h[0, h[0, :, 0].argmax()], h[0][g[0].argmax(-1)[:3] % 11], h.index_select(1, IDS)),
    "picking": lambda h, g: (h.gather(-1, h.argmax(-1, keepdim=True)), torch.take_along_dim(h, h.argsort(-1), -1)),
    "scattering": lambda h, g: (torch.zeros(24).scatter_add(0, IDS, h[0, 0, :3]), h[0, 0].scatter(0, IDS, 9.0)),
    "mirroring": lambda h, g: (h.flip(1), torch.roll(h, 1, dims=1), h[0].tril(), torch.triu(h[0], 1), h[0].diagonal()),
    "padding": lambda h, g: (F.pad(h, (1, 2)), F.pad(h, (0, 0, 2, 0), value=1.0)),
    "iteration": lambda h, g: [row.sum() for row in h[0]][:3],
    "casting": lambda h, g: (h.double(), h.to(torch.float16).float(), (h > 0).int(), h.long(), h.type_as(g), h.bool()),
    "copies": lambda h, g: (h.clone(), h.detach(), h.contiguous(), h.cpu(), h.to(h.device), h.to("cpu")),
    "makers": lambda h, g: (
        torch.zeros_like(h),
        torch.ones_like(h[0]),
        torch.full_like(h, 2.5),
        h.new_zeros(3),
        h * 0 + 1,
    ),
    "random numbers": lambda h, g: (torch.randn_like(h), h + torch.rand(h.shape), torch.rand_like(h[0])),
    "classes as vectors": lambda h, g: F.one_hot(h.argmax(-1), 24),
    "embeddings": lambda h, g: F.embedding(h.argmax(-1), MATRIX),
    "traces": lambda h, g: (torch.trace(h[0] @ g[0].T), torch.diag(h[0] @ g[0].T), torch.diag(h[0, 0])),
    "broadcasting": lambda h, g: torch.broadcast_tensors(h, torch.ones(1, 1, 24)),
}


def values(functions, model, backend):
    with model.trace(PROMPT, backend=backend):
        with torch.no_grad():
            h = model.transformer.h[0].output
            g = model.transformer.h[1].mlp.output
            found = {name: function(h, g) for name, function in functions.items()}.save()
    return {name: plain(value) for name, value in found.items()}


def plain(value):
    """Named tuples of torch as tuples."""
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def test_elementwise_functions(twice):
    twice(lambda model, backend: values(ELEMENTWISE, model, backend))


def test_reductions(twice):
    twice(lambda model, backend: values(REDUCTIONS, model, backend))


def test_products(twice):
    twice(lambda model, backend: values(PRODUCTS, model, backend))


def test_shapes_and_indexing(twice):
    twice(lambda model, backend: values(SHAPES, model, backend))


def test_modules_of_the_program(twice):
    dropout = torch.nn.Dropout().eval()

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[0].output
            found = [LINEAR(h), NORM(h), torch.nn.GELU()(h), dropout(h), torch.nn.MSELoss()(h, h * 2)].save()
        return found
