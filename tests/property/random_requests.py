"""Random requests that the checker accepts: reads, writes, operations, patches, gradients, generations."""

from itertools import count
from random import Random

import numpy as np

from interpd.graph.check import check
from interpd.graph.ir import Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData

_ids = count()

ALIKE = tuple(tuple(Random(n).choices(range(3, 300), k=n)) for n in (4, 5, 6))
"""The few prompts of requests that are to share rows."""


class RandomRequest:
    """Builds one request. The same seed gives the same request. ``alike``: of a few prompts only."""

    def __init__(self, seed, manifest, *, generates=False, gradients=False, raw=True, alike=False):
        self.rng = Random(seed)
        self.manifest = manifest
        self.generates, self.gradients = generates, gradients
        eager = self.rng.random() < 0.3
        self.sites = [site for site in manifest.sites.values() if self._is_wanted(site, eager, raw)]
        self.nodes = []
        self.lengths = [self.rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 12)) for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        if self.rng.random() < 0.5:
            self.lengths = [self.lengths[0] + self.rng.choice((0, 0, 1)) for _ in self.lengths]
        self.alike = alike
        if alike:
            self.lengths = [len(self.rng.choice(ALIKE)) for _ in range(self.rng.choice((1, 2, 3, 4)))]

    def _is_wanted(self, site, eager, raw):
        if site.canonical:
            return eager or not site.eager_attention
        # raw writes at the second norm reach the MLP alone, and what is canonical there does more
        second_norm = site.name.endswith(("ln_2.input", "post_attention_layernorm.input"))
        plain = site.name.endswith((".input", ".output")) and not second_norm
        return raw and plain and site.shares_pass and site.type.dtype.startswith(("float", "bfloat"))

    def request(self, **options):
        """A valid request, or ``None`` when this draw came out invalid."""
        for _ in range(self.rng.choice((1, 2, 3, 4))):
            self._act()
        if self.gradients:
            self._differentiate()
        else:
            self._final_reads()
        outputs = self._outputs()
        d_vocab = self.manifest.model.sizes["d_vocab"]
        ids = [tuple(self.rng.choices(range(3, d_vocab), k=n)) for n in self.lengths]
        if self.alike:
            ids = [next(own for own in ALIKE if len(own) == n) for n in self.lengths]
        prompts = tuple(Prompt(token_ids=own) for own in ids)
        generation = self._generation() if self.generates else None
        graph = Graph(tuple(self.nodes), outputs)
        request = RunRequest(f"r{next(_ids)}", "tiny", prompts, graph, generation, **options)
        return None if check(request, self.manifest, self.lengths).violations else request

    def _generation(self):
        pick, n = self.rng.random(), self.rng.choice((1, 2, 4, 6))
        if pick < 0.4:
            stops = tuple(self.rng.sample(range(3, 300), 60)) if self.rng.random() < 0.3 else ()
            return Generation(n, ignore_eos=True, stop_token_ids=stops)
        return Generation(n, do_sample=True, temperature=1.3, top_k=40, top_p=0.9, seed=self.rng.randrange(99))

    # Nodes

    def add(self, op, *inputs, invoke=0, steps=None, **params):
        self.nodes.append(Node(op, inputs, params, invoke=invoke, steps=steps))
        return Ref(len(self.nodes) - 1)

    def read(self, site, invoke, steps=None, **params):
        return self.add("site.read", invoke=invoke, steps=steps, site=site.name, **params)

    def _position(self, invoke, steps=None):
        n = self.lengths[invoke]
        n = 1 if self.generates and (steps is None or steps.start or steps.stop != 1) else n
        return self.rng.randrange(-n, n)

    def _steps(self):
        choices = (None, Steps(0, 1), Steps(1, 2), Steps(1, None), Steps(2, 4))
        return self.rng.choice(choices) if self.generates else None

    def _site(self, like=None):
        sites = self.sites if like is None else [site for site in self.sites if _axes(site) == _axes(like)]
        canonical = [site for site in sites if site.canonical]
        return self.rng.choice(canonical if canonical and self.rng.random() < 0.75 else sites)

    def _act(self):
        site, invoke, steps = self._site(), self.rng.randrange(len(self.lengths)), self._steps()
        kind = self.rng.random()
        if kind < 0.15 and len(self.lengths) > 1:
            self._exchange(site, steps)
            return
        if kind < 0.25:
            self._crowded_layer(invoke, steps)
            return
        if kind < 0.4:
            self._plain_read(site, invoke, steps)
            return
        if kind < 0.5:
            value = self._constant(site, invoke)
        elif kind < 0.7:
            value = self._patched(site, invoke, steps)
        else:
            value = self.read(site, invoke, steps)
            for _ in range(self.rng.choice((1, 1, 2))):
                value = self._changed(value, site, invoke, steps)
        if self.rng.random() < 0.15:
            value = self._changed(self.read(site, invoke, steps), site, invoke, steps)
        self.add("site.write", value, invoke=invoke, steps=steps, site=site.name)
        if self.rng.random() < 0.4:
            self._plain_read(site, invoke, steps)

    def _exchange(self, site, steps):
        """Two prompts, perhaps of different lengths, that need each other's values, so that they share a pass."""
        one, other = self.rng.sample(range(len(self.lengths)), 2)
        values = [self.read(site, at, steps, positions=(self._position(at, steps),)) for at in (one, other)]
        if self.rng.random() < 0.5:
            values[0] = self._changed(values[0], site, one, steps)
        self.add("site.write", values[1], invoke=one, steps=steps, site=site.name)
        self.add("site.write", values[0], invoke=other, steps=steps, site=site.name)

    def _crowded_layer(self, invoke, steps):
        """Writes at several places of one block, some of them twice."""
        layer = self.rng.randrange(self.manifest.model.n_layers)
        inside = [s for s in self.sites if s.layer == layer and _axes(s) == ("batch", "pos", "d_model")]
        canonical = [self.manifest.sites[f"layers.{layer}.{part}"] for part in ("resid_mid", "mlp.out", "resid_post")]
        for site in self.rng.choices([*canonical, *canonical, *inside], k=self.rng.choice((2, 3, 4))):
            value = self._changed(self.read(site, invoke, steps), site, invoke, steps)
            self.add("site.write", value, invoke=invoke, steps=steps, site=site.name)
            if self.rng.random() < 0.3:
                self._plain_read(site, invoke, steps)

    def _plain_read(self, site, invoke, steps):
        has_pos = any(dim.name in ("pos", "query_pos") for dim in site.type.dims)
        if has_pos and self.rng.random() < 0.6:
            places = tuple(self._position(invoke, steps) for _ in range(self.rng.choice((1, 1, 2))))
            return self.read(site, invoke, steps, positions=places)
        return self.read(site, invoke, steps)

    def _constant(self, site, invoke):
        sizes = {"batch": 1, "pos": self.lengths[invoke], "query_pos": self.lengths[invoke]}
        full = [dim.size or sizes.get(dim.name, 1) for dim in site.type.dims]
        start = self.rng.randrange(len(full))
        shape = full[start:] if self.rng.random() < 0.5 else [1] * self.rng.randrange(2) + [full[-1]]
        if self.generates:
            shape = [full[-1]] if site.type.dims[-1].size else [1]
        data = np.random.default_rng(self.rng.randrange(1 << 30)).standard_normal(shape)
        return TensorData.from_numpy(data.astype(self.rng.choice(("float32", "float64", "float16"))))

    def _patched(self, site, invoke, steps):
        """A value of another place, perhaps of another prompt."""
        source, other = self._site(like=site), self.rng.randrange(len(self.lengths))
        if self.generates and any(dim.name == "key_pos" for dim in site.type.dims):
            # with every step there are more keys, and fewer where there is a window
            return self._changed(self.read(site, invoke, steps), site, invoke, steps)
        if steps is not None and self.rng.random() < 0.5:
            value = self.read(source, other, Steps(0, 1), positions=(self._position(other, Steps(0, 1)),))
        else:
            value = self.read(source, other, steps, positions=(self._position(other, steps),))
        if self.rng.random() < 0.5 and not self.generates:
            part = self.add("tensor.getitem", value, (Slice(), 0)) if len(site.type.dims) < 4 else value
            if part != value:
                own = self.read(site, invoke, steps)
                return self.add("tensor.setitem", own, (Slice(), self._position(invoke, steps)), part)
        return value

    def _changed(self, value, site, invoke, steps):
        rng = self.rng
        last = site.type.dims[-1].size
        choices = {
            "scale": lambda: self.add("torch.mul", value, rng.choice((-0.5, 0.5, 1.5))),
            "shift": lambda: self.add("torch.add", value, self._vector(last)),
            "tanh": lambda: self.add("torch.tanh", value),
            "relu": lambda: self.add("torch.relu", value),
            "roll": lambda: self.add("torch.roll", value, shifts=1, dims=rng.choice((1, -1))),
            "flip": lambda: self.add("torch.flip", value, dims=rng.choice((1, -1))),
            "softmax": lambda: self.add("torch.softmax", value, dim=-1),
            "cumsum": lambda: self.add("torch.cumsum", value, dim=rng.choice((1, -1))),
            "set": lambda: self.add("tensor.setitem", value, (Slice(), self._position(invoke, steps)), 0.25),
            "tail": lambda: self.add("tensor.setitem", value, (Dots(), Slice(-2, None)), -0.5),
            "mean": lambda: self.add("torch.mean", value, dim=1, keepdim=True),
            "where": lambda: self.add("torch.where", self.add("torch.gt", value, 0.1), value, 0.0),
            "self": lambda: self.add("torch.sub", self.add("torch.mul", value, 1.5), self.read(site, invoke, steps)),
            "double": lambda: self.add("torch.mul", self.add("tensor.to", value, dtype="float64"), 0.75),
            "halves": lambda: self.add(
                "torch.cat",
                (
                    self.add("tensor.getitem", value, (Dots(), Slice(1, None))),
                    self.add("tensor.getitem", value, (Dots(), Slice(None, 1))),
                ),
                dim=-1,
            ),
        }
        if _axes(site) == ("batch", "pos", "d_model"):
            choices["module"] = lambda: self.add("module.call", value, module=self._mlp())
            choices["norm"] = lambda: self.add("torch.layer_norm", value, normalized_shape=(last,))
            choices["weight"] = lambda: self.add("torch.mul", value, self.add("param.read", name=self._norm()))
        return choices[rng.choice(sorted(choices))]()

    def _vector(self, size):
        if size is None:
            return 0.3
        data = np.random.default_rng(self.rng.randrange(1 << 30)).standard_normal(size)
        return TensorData.from_numpy(data.astype("float32" if self.manifest.model.dtype != "float64" else "float64"))

    def _mlp(self):
        gpt2, llama = ("transformer.h.0.mlp", "transformer.ln_f"), ("model.layers.0.mlp", "model.norm")
        return self.rng.choice(gpt2 if self._is_gpt2 else llama)

    def _norm(self):
        return "transformer.ln_f.weight" if self._is_gpt2 else "model.norm.weight"

    @property
    def _last_stream(self):
        return f"layers.{self.manifest.model.n_layers - 1}.resid_post"

    @property
    def _is_gpt2(self):
        return self.manifest.model.family == "gpt2"

    def _final_reads(self):
        for invoke in range(len(self.lengths)):
            site = self.manifest.sites[self.rng.choice(("logits", "logits", "ln_final", self._last_stream))]
            value = self._plain_read(site, invoke, self._steps())
            if self.rng.random() < 0.2:
                self.add("torch.topk", value, k=3)

    def _differentiate(self):
        invoke = self.rng.randrange(len(self.lengths))
        for _ in range(2):
            self._plain_read(self._site(), self.rng.randrange(len(self.lengths)), None)
        reads = [i for i, node in enumerate(self.nodes) if node.op == "site.read"]
        targets = []
        for _ in range(self.rng.choice((1, 2))):
            site = self.manifest.sites[self.rng.choice(("logits", "logits", "ln_final", "layers.1.resid_post"))]
            value = self.add("torch.tanh", self._plain_read(site, invoke, None))
            targets.append(self.add("torch.sum", value))
        for _ in range(self.rng.choice((1, 2, 3))):
            self.add("site.grad", self.rng.choice(targets), Ref(self.rng.choice(reads)))
        if self.rng.random() < 0.3:
            last = len(self.nodes) - 1
            self.add("torch.mul", self.nodes[last].inputs[1], Ref(last))

    def _outputs(self):
        used = {ref.node for node in self.nodes for ref in _refs(node)}
        outputs = {}
        for index, node in enumerate(self.nodes):
            if node.op != "site.write" and (index not in used or self.rng.random() < 0.3):
                outputs[f"n{index}"] = Ref(index)
        return outputs


def _axes(site):
    return tuple(dim.name for dim in site.type.dims)


def _refs(node):
    for arg in node.inputs:
        for item in arg if isinstance(arg, tuple) else (arg,):
            if isinstance(item, Ref):
                yield item


def disturber(rng, manifest):
    """A request that fails in the middle of a pass, spreads NaN, comes too late, or is to be cancelled: its id says."""
    kind = rng.choice(("fails", "nan", "late", "cancelled"))
    site = f"layers.{rng.randrange(manifest.model.n_layers)}.{rng.choice(('resid_mid', 'attn.out'))}"
    nodes = [Node("site.read", (), {"site": site})]
    if kind == "fails":
        nodes += [
            Node("tokens.ids"),
            Node("tensor.getitem", (Ref(1), (0, Slice(-1, None)))),
            Node("torch.add", (Ref(2), 10_000)),
            Node("torch.index_select", (Ref(0), Ref(3)), {"dim": 1}),
        ]
    else:
        nodes.append(Node("torch.mul", (Ref(0), float("nan") if kind == "nan" else 3.0)))
    nodes.append(Node("site.write", (Ref(len(nodes) - 1),), {"site": site}))
    nodes.append(Node("site.read", (), {"site": "logits", "positions": (-1,)}))
    prompt = Prompt(token_ids=tuple(rng.choices(range(3, 300), k=rng.choice((1, 3, 4, 5, 6, 8)))))
    generation = Generation(4, ignore_eos=True) if rng.random() < 0.4 else None
    late = 1.0 if kind == "late" else None
    outputs = {"last": Ref(len(nodes) - 1)}
    graph = Graph(tuple(nodes), outputs)
    return RunRequest(f"{kind}-{next(_ids)}", "tiny", (prompt,), graph, generation, deadline_s=late)


def requests(seed, n, manifest, **options):
    """``n`` valid requests."""
    rng, found = Random(seed), []
    while len(found) < n:
        request = RandomRequest(rng.randrange(1 << 40), manifest, **options).request()
        if request is not None:
            found.append(request)
    return found
