"""Random requests that the checker accepts: reads, writes, operations, patches, gradients, generations.

Of any model: sites, modules and parameters are those of its manifest. Of an encoder-decoder model sources and targets
have lengths of their own, and what is on the encoder's side is used at step 0 only.
"""

from dataclasses import replace
from itertools import count
from random import Random

import numpy as np

from interpd.graph.check import check
from interpd.graph.ir import Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import Lengths, RunRequest
from interpd.graph.types import TensorData

_ids = count()

ALIKE = tuple(tuple(Random(n).choices(range(3, 300), k=n)) for n in (4, 5, 6))
"""The few prompts of requests that are to share rows."""

POISON = 1e30

POSITIONS = ("pos", "query_pos", "src_pos")


class RandomRequest:
    """Builds one request. The same seed gives the same request.

    ``alike``: of a few prompts only. ``raw``: with raw paths; ``every_raw``: also those that the interpreter by hooks
    does not tell apart.
    """

    def __init__(self, seed, manifest, *, generates=False, gradients=False, raw=True, every_raw=False, alike=False):
        self.rng = Random(seed)
        self.manifest = manifest
        self.generates, self.gradients, self.every_raw = generates, gradients, every_raw
        eager = self.rng.random() < 0.3
        self.sites = [site for site in manifest.sites.values() if self._is_wanted(site, eager, raw)]
        self.nodes = []
        self.lengths = [self.rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 12)) for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        if self.rng.random() < 0.5:
            self.lengths = [self.lengths[0] + self.rng.choice((0, 0, 1)) for _ in self.lengths]
        self.alike = alike
        if alike:
            self.lengths = [len(self.rng.choice(ALIKE)) for _ in range(self.rng.choice((1, 2, 3, 4)))]
        self.sources = [0] * len(self.lengths)
        if manifest.model.has_encoder:
            lengths = tuple(map(len, ALIKE)) if alike else (1, 2, 3, 5, 8)
            self.sources = [self.rng.choice(lengths) for _ in self.lengths]
        if every_raw and not alike and self.rng.random() < 0.1:
            self.lengths[0] = self.rng.choice((20, 33, 58))

    def _is_wanted(self, site, eager, raw):
        if site.canonical:
            return eager or not site.eager_attention
        # raw writes at the second norm reach the MLP alone, and what is canonical there does more
        second_norm = site.name.endswith(("ln_2.input", "post_attention_layernorm.input"))
        plain = site.name.endswith((".input", ".output")) and (self.every_raw or not second_norm)
        has_width = site.type.dims is not None and site.type.dims and site.type.dims[-1].size is not None
        is_float = site.type.dtype.startswith(("float", "bfloat"))
        return raw and plain and site.shares_pass and is_float and has_width

    def request(self, **options):
        """A valid request, or ``None`` when this draw came out invalid."""
        for _ in range(self.rng.choice((1, 2, 3, 4))):
            self._act()
        if self.gradients:
            self._differentiate()
        else:
            self._final_reads()
        outputs = self._outputs()
        prompts = tuple(map(self._prompt, self.lengths, self.sources))
        generation = self._generation() if self.generates else None
        graph = Graph(tuple(self.nodes), outputs)
        request = RunRequest(f"r{next(_ids)}", "tiny", prompts, graph, generation, **options)
        lengths = list(map(Lengths, self.lengths, self.sources))
        return None if check(request, self.manifest, lengths).violations else request

    def _prompt(self, n_pos, n_src):
        if not self.manifest.model.has_encoder:
            return Prompt(token_ids=self._ids(n_pos))
        # the decoder's start token comes before the target
        return Prompt(token_ids=self._ids(n_src), target_ids=self._ids(n_pos - 1))

    def _ids(self, n):
        if self.alike:
            return next((own for own in ALIKE if len(own) == n), ALIKE[-1][:n])
        # of two vocabularies the smaller one
        return tuple(self.rng.choices(range(3, min(self.manifest.model.sizes["d_vocab"], 321)), k=n))

    def _generation(self):
        pick, n = self.rng.random(), self.rng.choice((1, 2, 4, 6))
        if pick < 0.4:
            stops = tuple(self.rng.sample(range(3, 300), 60)) if self.rng.random() < 0.3 else ()
            words = tuple(self.rng.sample("aeinrst .", 4)) if self.rng.random() < 0.2 else ()
            # the interpreter by hooks knows no texts
            words = words if self.every_raw else ()
            return Generation(n, ignore_eos=True, stop_token_ids=stops, stop_strings=words)
        return Generation(n, do_sample=True, temperature=1.3, top_k=40, top_p=0.9, seed=self.rng.randrange(99))

    # Nodes

    def add(self, op, *inputs, invoke=0, steps=None, **params):
        self.nodes.append(Node(op, inputs, params, invoke=invoke, steps=steps))
        return Ref(len(self.nodes) - 1)

    def read(self, site, invoke, steps=None, **params):
        steps = None if site.prefill_only else steps
        return self.add("site.read", invoke=invoke, steps=steps, site=site.name, **params)

    def write(self, value, site, invoke, steps=None):
        return self.add("site.write", value, invoke=invoke, steps=None if site.prefill_only else steps, site=site.name)

    def _position(self, site, invoke, steps=None):
        if _position_axis(site) == "src_pos":
            n = self.sources[invoke]
        else:
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
        self.write(value, site, invoke, steps)
        if self.rng.random() < 0.4:
            self._plain_read(site, invoke, steps)

    def _exchange(self, site, steps):
        """Two prompts, perhaps of different lengths, that need each other's values, so that they share a pass."""
        one, other = self.rng.sample(range(len(self.lengths)), 2)
        values = [self.read(site, at, steps, positions=(self._position(site, at, steps),)) for at in (one, other)]
        if self.rng.random() < 0.5:
            values[0] = self._changed(values[0], site, one, steps)
        self.write(values[1], site, one, steps)
        self.write(values[0], site, other, steps)

    def _crowded_layer(self, invoke, steps):
        """Writes at several places of one block, some of them twice."""
        layer = self.rng.randrange(self.manifest.model.n_layers)
        inside = [site for site in self.sites if site.layer == layer and _is_stream(site)]
        parts = ("resid_cross", "resid_mid", "mlp.out", "resid_post")
        canonical = [site for site in inside if site.canonical and site.name.endswith(parts)]
        for site in self.rng.choices([*canonical, *canonical, *inside], k=self.rng.choice((2, 3, 4))):
            value = self._changed(self.read(site, invoke, steps), site, invoke, steps)
            self.write(value, site, invoke, steps)
            if self.rng.random() < 0.3:
                self._plain_read(site, invoke, steps)

    def _plain_read(self, site, invoke, steps):
        if _position_axis(site) and self.rng.random() < 0.6:
            places = tuple(self._position(site, invoke, steps) for _ in range(self.rng.choice((1, 1, 2))))
            return self.read(site, invoke, steps, positions=places)
        return self.read(site, invoke, steps)

    def _constant(self, site, invoke):
        n_pos, n_src = self.lengths[invoke], self.sources[invoke]
        sizes = {"batch": 1, "pos": n_pos, "query_pos": n_pos, "src_pos": n_src}
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
            first = Steps(0, 1)
            value = self.read(source, other, first, positions=(self._position(source, other, first),))
        else:
            value = self.read(source, other, steps, positions=(self._position(source, other, steps),))
        if self.rng.random() < 0.5 and not self.generates:
            part = self.add("tensor.getitem", value, (Slice(), 0)) if len(site.type.dims) < 4 else value
            if part != value:
                own = self.read(site, invoke, steps)
                return self.add("tensor.setitem", own, (Slice(), self._position(site, invoke, steps)), part)
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
            "set": lambda: self.add("tensor.setitem", value, (Slice(), self._position(site, invoke, steps)), 0.25),
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
        if _is_stream(site):
            choices["module"] = lambda: self.add("module.call", value, module=self._module(last))
            choices["norm"] = lambda: self.add("torch.layer_norm", value, normalized_shape=(last,))
            choices["weight"] = lambda: self.add("torch.mul", value, self.add("param.read", name=self._weight(last)))
        if self.every_raw and site.name.endswith(".scores") and rng.random() < 0.5:
            # no query sees this key any more, and some may see none
            return self.add("tensor.setitem", value, (Dots(), rng.choice((0, -1))), rng.choice((-np.inf, -3e38)))
        return choices[rng.choice(sorted(choices))]()

    def _vector(self, size):
        if size is None:
            return 0.3
        data = np.random.default_rng(self.rng.randrange(1 << 30)).standard_normal(size)
        return TensorData.from_numpy(data.astype("float32" if self.manifest.model.dtype != "float64" else "float64"))

    def _module(self, size):
        modules = self.manifest.modules.values()
        return self.rng.choice([module.path for module in modules if module.d_in == module.d_out == size])

    def _weight(self, size):
        shapes = {name: [dim.size for dim in found.dims] for name, found in self.manifest.parameters.items()}
        return self.rng.choice([name for name, shape in shapes.items() if shape == [size]])

    def _ends(self):
        """Where the last reads are: at the logits above all."""
        streams = [name for name in self.manifest.sites if name.endswith(".resid_post")]
        found = [name for name in ("ln_final", *streams[-2:]) if name in self.manifest.sites]
        return [self.manifest.sites[name] for name in ("logits", "logits", *found)]

    def _final_reads(self):
        for invoke in range(len(self.lengths)):
            value = self._plain_read(self.rng.choice(self._ends()), invoke, self._steps())
            if self.rng.random() < 0.2:
                self.add("torch.topk", value, k=3)

    def _differentiate(self):
        invoke = self.rng.randrange(len(self.lengths))
        for _ in range(2):
            self._plain_read(self._site(), self.rng.randrange(len(self.lengths)), None)
        reads = [i for i, node in enumerate(self.nodes) if node.op == "site.read"]
        targets = []
        for _ in range(self.rng.choice((1, 2))):
            value = self.add("torch.tanh", self._plain_read(self.rng.choice(self._ends()), invoke, None))
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


def _is_stream(site):
    axes = _axes(site)
    return len(axes) == 3 and axes[0] == "batch" and axes[1] in ("pos", "src_pos") and axes[2] == "d_model"


def _position_axis(site):
    return next((name for name in _axes(site) if name in POSITIONS), None)


def _refs(node):
    for arg in node.inputs:
        for item in arg if isinstance(arg, tuple) else (arg,):
            if isinstance(item, Ref):
                yield item


def disturber(rng, manifest, kinds=("fails", "nan", "late", "cancelled")):
    """A request that fails in the middle of a pass, spreads NaN, comes too late, or is to be cancelled: its id says.

    One that is to ``poison`` puts NaN or infinity anywhere, and may take gradients through it.
    One that ``breaks`` writes ``POISON`` in front of a projection, for a hook that then raises.
    """
    kind = rng.choice(kinds)
    if kind == "poison":
        return _poisoner(rng, manifest)
    parts = (".resid_mid", ".attn.out", ".mlp.output", ".fc2.output")
    if kind == "breaks":
        parts = (".attn.z", ".o_proj.input", ".out_proj.input")
    middle = [site.name for site in manifest.sites.values() if site.layer in range(manifest.model.n_layers)]
    site = rng.choice([name for name in middle if name.endswith(parts)])
    nodes = [Node("site.read", (), {"site": site})]
    if kind == "fails":
        nodes += [
            Node("tokens.ids", (), {"side": "source"} if manifest.model.has_encoder else {}),
            Node("tensor.getitem", (Ref(1), (0, Slice(-1, None)))),
            Node("torch.add", (Ref(2), 10_000)),
            Node("torch.index_select", (Ref(0), Ref(3)), {"dim": 1}),
        ]
    elif kind == "breaks":
        nodes.append(Node("torch.add", (Ref(0), POISON)))
    else:
        nodes.append(Node("torch.mul", (Ref(0), float("nan") if kind == "nan" else 3.0)))
    nodes.append(Node("site.write", (Ref(len(nodes) - 1),), {"site": site}))
    nodes.append(Node("site.read", (), {"site": "logits", "positions": (-1,)}))
    prompt = Prompt(token_ids=tuple(rng.choices(range(3, 300), k=rng.choice((1, 3, 4, 5, 6, 8)))))
    if rng.random() < 0.3:
        prompt = Prompt(token_ids=rng.choice(ALIKE))
    generation = Generation(4, ignore_eos=True) if rng.random() < 0.4 else None
    if kind == "breaks" and generation is not None and rng.random() < 0.7:
        nodes = _late_steps(nodes, manifest, Steps(rng.randrange(1, 4)))
    late = 1.0 if kind == "late" else None
    outputs = {"last": Ref(len(nodes) - 1)}
    graph = Graph(tuple(nodes), outputs)
    return RunRequest(f"{kind}-{next(_ids)}", "tiny", (prompt,), graph, generation, deadline_s=late)


def _poisoner(rng, manifest):
    places = [site for site in manifest.sites.values() if site.writable and site.shares_pass]
    while True:
        site, value = rng.choice(places), rng.choice((np.nan, np.inf, -np.inf))
        part = Node("tensor.setitem", (Ref(0), (Slice(), rng.choice((0, -1))), value))
        nodes = [
            Node("site.read", (), {"site": site.name}),
            rng.choice((part, Node("torch.mul", (Ref(0), value)))),
            Node("site.write", (Ref(1),), {"site": site.name}),
            Node("site.read", (), {"site": "logits", "positions": (-1,)}),
        ]
        generation = Generation(3, ignore_eos=True) if rng.random() < 0.4 else None
        if generation is None and rng.random() < 0.5:
            nodes += [Node("torch.sum", (Ref(3),)), Node("site.grad", (Ref(4), Ref(0)))]
        outputs = {"last": Ref(3), **({"gradient": Ref(5)} if len(nodes) > 4 else {})}
        prompt = Prompt(token_ids=rng.choice((*ALIKE, (7,), (5, 4, 3))))
        request = RunRequest(f"poison-{next(_ids)}", "tiny", (prompt,), Graph(tuple(nodes), outputs), generation)
        if not check(request, manifest).violations:
            return request


def _late_steps(nodes, manifest, steps):
    """The same at later steps, where what they touch exists there."""
    if any(manifest.sites[node.params["site"]].prefill_only for node in nodes if "site" in node.params):
        return nodes
    return [replace(node, steps=steps) if "site" in node.params else node for node in nodes]


def requests(seed, n, manifest, **options):
    """``n`` valid requests."""
    rng, found = Random(seed), []
    while len(found) < n:
        request = RandomRequest(rng.randrange(1 << 40), manifest, **options).request()
        if request is not None:
            found.append(request)
    return found
