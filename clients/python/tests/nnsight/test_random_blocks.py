"""Random blocks of nnsight code, each run locally and through the service: equal results, or a refusal at its line."""

import random
from collections import Counter
from contextlib import ExitStack

import pytest
import torch

pytestmark = pytest.mark.slow

PORTS = ("input", "output")
VIEWS = {
    "x[:, -1]": lambda x, n: x[:, -1],
    "x[:, -2:]": lambda x, n: x[:, -2:],
    "x[:, 1:]": lambda x, n: x[:, 1:],
    "x[-1]": lambda x, n: x[-1],
    "x[0]": lambda x, n: x[0],
    "x[..., :n]": lambda x, n: x[..., :n],
    "x[..., -n::2]": lambda x, n: x[..., -n::2],
    "x[:, None]": lambda x, n: x[:, None],
    "x[None]": lambda x, n: x[None],
    "x[:, :]": lambda x, n: x[:, :],
    "x.transpose(0, 1)": lambda x, n: x.transpose(0, 1),
    "x.mT": lambda x, n: x.mT,
    "x.movedim(-1, 0)": lambda x, n: x.movedim(-1, 0),
    "x.unflatten(-1, (2, -1))": lambda x, n: x.unflatten(-1, (2, -1)),
    "x.flatten(0, 1)": lambda x, n: x.flatten(0, 1),
    "x.reshape(-1)": lambda x, n: x.reshape(-1),
    "x.view(x.shape)": lambda x, n: x.view(x.shape),
    "x.squeeze()": lambda x, n: x.squeeze(),
    "x.chunk(2, -1)[1]": lambda x, n: x.chunk(2, -1)[1],
    "x.split(n, -1)[0]": lambda x, n: x.split(n, -1)[0],
    "x.unbind(0)[-1]": lambda x, n: x.unbind(0)[-1],
    "x.select(-1, -n)": lambda x, n: x.select(-1, -n),
    "x.narrow(-1, 1, n)": lambda x, n: x.narrow(-1, 1, n),
    "x.detach()": lambda x, n: x.detach(),
    "x.data": lambda x, n: x.data,
    "x.contiguous()": lambda x, n: x.contiguous(),
    "x.expand_as(x)": lambda x, n: x.expand_as(x),
    "x[:0]": lambda x, n: x[:0],
}
COPIES = {
    "x * 0.5": lambda x, y, n: x * 0.5,
    "1 - x": lambda x, y, n: 1 - x,
    "x + y": lambda x, y, n: x + y,
    "x - y.mean()": lambda x, y, n: x - y.mean(),
    "x.clone()": lambda x, y, n: x.clone(),
    "x.tanh()": lambda x, y, n: x.tanh(),
    "x.softmax(-1)": lambda x, y, n: x.softmax(-1),
    "x.mean(-1, keepdim=True)": lambda x, y, n: x.mean(-1, keepdim=True),
    "x.sum(0)": lambda x, y, n: x.sum(0),
    "x.amax(-1)": lambda x, y, n: x.amax(-1),
    "torch.cat([x, y])": lambda x, y, n: torch.cat([x, y]),
    "torch.stack([x, y])": lambda x, y, n: torch.stack([x, y]),
    "torch.where(x > 0.1, x, y)": lambda x, y, n: torch.where(x > 0.1, x, y),
    "x[..., [0, -1]]": lambda x, y, n: x[..., [0, -1]],
    "x.flip(-1)": lambda x, y, n: x.flip(-1),
    "x.norm(dim=-1)": lambda x, y, n: x.norm(dim=-1),
    "torch.zeros_like(x)": lambda x, y, n: torch.zeros_like(x),
    "torch.ones(x.shape)": lambda x, y, n: torch.ones(x.shape),
    "x @ x.mT": lambda x, y, n: x @ x.mT,
}


def _set(x, index, value):
    x[index] = value


def _add_at(x, index, value):
    x[index] += value


CHANGES = {
    "x += 0.5": lambda x, y, n: x.__iadd__(0.5),
    "x *= -0.5": lambda x, y, n: x.__imul__(-0.5),
    "x -= y": lambda x, y, n: x.__isub__(y),
    "x.mul_(y)": lambda x, y, n: x.mul_(y),
    "x.zero_()": lambda x, y, n: x.zero_(),
    "x.fill_(0.25)": lambda x, y, n: x.fill_(0.25),
    "x.copy_(y)": lambda x, y, n: x.copy_(y),
    "x.clamp_(-0.5, 0.5)": lambda x, y, n: x.clamp_(-0.5, 0.5),
    "x.tanh_()": lambda x, y, n: x.tanh_(),
    "x[:] = y": lambda x, y, n: _set(x, slice(None), y),
    "x[:] = 0": lambda x, y, n: _set(x, slice(None), 0),
    "x[:, -1] = 0.5": lambda x, y, n: _set(x, (slice(None), -1), 0.5),
    "x[:, -1] += y[:, 0]": lambda x, y, n: _add_at(x, (slice(None), -1), y[:, 0]),
    "x[..., ::2] = y[..., 1::2]": lambda x, y, n: _set(x, (..., slice(None, None, 2)), y[..., 1::2]),
    "x[..., [0, n]] = 0.1": lambda x, y, n: _set(x, (..., [0, n]), 0.1),
    "x[..., [0, n]] += 1": lambda x, y, n: _add_at(x, (..., [0, n]), 1),
    "x[x > 0.3] = 0.3": lambda x, y, n: _set(x, x > 0.3, 0.3),
    "x[-1, ..., -n:] *= 2": lambda x, y, n: x[-1, ..., -n:].mul_(2),
    "x[0] = x[-1]": lambda x, y, n: _set(x, 0, x[-1]),
    "x.masked_fill_(x < 0, 0)": lambda x, y, n: x.masked_fill_(x < -0.1, 0.0),
    "x.add_(y, alpha=0.3)": lambda x, y, n: x.add_(y, alpha=0.3),
    "x.data[:] = 0.2": lambda x, y, n: _set(x.data, slice(None), 0.2),
}


ALL = (VIEWS, CHANGES, COPIES)
# of what is changed in place torch knows no gradients
SMOOTH = ({}, {}, {text: COPIES[text] for text in [*list(COPIES)[:7], "x.sum(0)", "x.flip(-1)"]})
# every position for itself
FROM_THE_END = (
    {
        text: VIEWS[text]
        for text in VIEWS
        if text.startswith(("x[:, -", "x[..., ", "x.chunk", "x.unflatten", "x.de", "x.mT"))
    },
    {text: CHANGES[text] for text in CHANGES if not any(part in text for part in ("x[0]", "n]", "y[", "x > "))},
    {
        **{
            text: COPIES[text]
            for text in COPIES
            if not any(part in text for part in ("@", "(0)", "torch.cat", "mean()"))
        },
        "x.cumsum(-1)": lambda x, y, n: x.cumsum(-1),
        "x.topk(n).values": lambda x, y, n: x.topk(n).values,
        "x.sum(-1)": lambda x, y, n: x.sum(-1),
        "F.layer_norm(x)": lambda x, y, n: torch.nn.functional.layer_norm(x, x.shape[-1:]),
        "x @ matrix": lambda x, y, n: x @ torch.linspace(-1, 1, x.shape[-1] * n).view(-1, n).sin(),
        "x.sub(y[:, -1:])": lambda x, y, n: x.sub(y[:, -1:]),
        "torch.cat([x, y], -1)": lambda x, y, n: torch.cat([x, y], -1),
    },
)


class Script:
    """What one block does: the same on the model here and on tensors without numbers, as only shapes decide.

    Args:
        seed: Of all that is drawn.
        model: nnsight's.
        places: The modules that may be read, (path, port), in the order of the forward.
        writes: How often something is changed, between 0 and 1.
        tables: The views, the changes in place and the functions that are drawn from.
    """

    def __init__(self, seed, model, places, writes=0.5, tables=ALL):
        self.rng, self.tables = random.Random(seed), tables
        self.model, self.writes = model, writes
        n_places = min(self.rng.randint(1, 6), len(places))
        self.places = sorted(self.rng.sample(range(len(places)), n_places))
        self.all = places
        self.known, self.whole, self.log, self.saved = [], [], [], []

    def walk(self, may_skip=False):
        """Reads and changes at every place."""
        for number in self.places:
            path, port = self.all[number]
            value = self._read(path, port)
            for _ in range(self.rng.randint(0, 3)):
                self._act()
            if self.rng.random() < self.writes * 0.5:
                self._assign(path, port, value)
            elif may_skip and port == "input" and path.endswith("mlp") and self.rng.random() < 0.2:
                self._note(f"{path}.skip(input * 0.5)")
                self.model.get(path).skip(value * 0.5)
                return

    def finish(self, part=lambda logits: logits):
        """Marks some of the tensors, and the logits or a part of them."""
        logits = self.model.lm_head.output if self.rng.random() < 0.5 else self.model.output.logits
        for name, value in self.rng.sample(self.known, min(4, len(self.known))):
            self._note(f"save {name}")
            self.saved.append(value.save())
        self.saved.append(part(logits).save())

    def _note(self, line):
        self.log.append(line)

    def _keep(self, text, value):
        name = f"v{len(self.known)}"
        self.known.append((name, value))
        self._note(f"{name} = {text}   # {list(value.shape)}")
        return value

    def _read(self, path, port):
        value = getattr(self.model.get(path), port)
        text = f"{path}.{port}"
        if isinstance(value, (tuple, list)):
            value, text = value[0], f"{text}[0]"
        self.whole.append(value)
        return self._keep(text, value)

    def _pick(self):
        # late ones more often
        return self.known[max(self.rng.randrange(len(self.known)), self.rng.randrange(len(self.known)))]

    def _partner(self, shape):
        """A tensor that broadcasts to a shape."""
        fitting = []
        for name, value in self.known:
            try:
                if torch.broadcast_shapes(value.shape, shape) == torch.Size(shape):
                    fitting.append((name, value))
            except RuntimeError:
                continue
        return self.rng.choice(fitting)

    def _act(self):
        name, x = self._pick()
        n = self.rng.randint(1, 3)
        other, y = self._partner(x.shape)
        views, changes, copies = self.tables
        kind = self.rng.random()
        if kind < 0.35 and views:
            text = self.rng.choice(list(views))
            self._try(f"[x={name} n={n}] {text}", lambda: views[text](x, n))
        elif kind < 0.35 + 0.35 * self.writes and changes:
            text = self.rng.choice(list(changes))
            self._note(f"[x={name} y={other} n={n}] {text}")
            if self._works(lambda: changes[text](torch.zeros(x.shape), torch.zeros(y.shape), n)):
                # torch leaves open what a copy between overlapping parts of one memory gives
                changes[text](x, y if y is x else y.clone(), n)
        else:
            text = self.rng.choice(list(copies))
            self._try(f"[x={name} y={other} n={n}] {text}", lambda: copies[text](x, y, n))

    def _try(self, text, make):
        try:
            value = make()
        except (RuntimeError, IndexError, ValueError) as error:
            if type(error).__name__ == "CannotRecord":
                raise
            self._note(f"{text}: {type(error).__name__}")
            return
        if 0 < value.numel() < 5_000:
            self._keep(text, value)

    def _works(self, call):
        try:
            call()
        except (RuntimeError, IndexError, ValueError):
            self._note("   does not fit")
            return False
        return True

    def _assign(self, path, port, value):
        fitting = [(name, one) for name, one in self.known if one.shape == value.shape]
        name, new = self.rng.choice(fitting)
        scale = self.rng.choice((None, None, 0.5, -1.0))
        self._note(f"{path}.{port} = {name} * {scale}")
        new = new if scale is None else new * scale
        envoy = self.model.get(path)
        whole = getattr(envoy, port)
        if isinstance(whole, tuple):
            new = (new, *whole[1:])
        setattr(envoy, port, new)


def trace(script, model, backend, prompt):
    with model.trace(prompt, backend=backend):
        script.walk(may_skip=True)
        script.finish()


def gradients(script, model, backend, prompt):
    with model.trace(prompt, backend=backend):
        script.walk()
        script.finish()
        loss = script.saved[-1].pow(2).mean()
        if script.rng.random() < 0.5:
            loss = loss + script.known[-1][1].float().sum()
        wanted = [value for value in reversed(script.whole) if script.rng.random() < 0.7]
        with loss.backward():
            for value in wanted:
                script.saved.append(value.grad.save())


def generation(script, model, backend, prompt):
    n_steps = script.rng.randint(1, 4)
    with model.generate(prompt, max_new_tokens=4, eos_token_id=None, backend=backend) as tracer:
        for step in tracer.iter[:n_steps]:
            script.walk()
            if script.rng.random() < 0.5:
                script.finish()
        script.saved.append(tracer.result.save())


def padded(script, model, backend, prompt):
    prompt = [*prompt, *prompt]
    prompts = [prompt, prompt[1:], prompt[2:]][: script.rng.randint(2, 3)]
    with model.trace(backend=backend) as tracer:
        for ids in script.rng.sample(prompts, len(prompts)):
            with tracer.invoke(ids):
                script.known, script.whole = [], []
                script.walk()
                script.known = [
                    (name, x[:, -1:]) for name, x in script.known if x.ndim > 1 and x.shape[1] == len(prompt)
                ]
                script.finish(lambda logits: logits[:, -1])


def invokes(script, model, backend, prompt):
    prompts = [prompt, *([token % 97 + number for token in prompt] for number in range(script.rng.randint(1, 2)))]
    with model.trace(backend=backend) as tracer:
        barrier = tracer.barrier(len(prompts))
        places, n_places = script.places, len(script.all)
        for ids in prompts:
            with tracer.invoke(ids):
                script.places = [place for place in places if place < n_places // 2]
                script.walk()
                barrier()
                script.places = [place for place in places if place >= n_places // 2]
                script.walk()
                script.finish()


def batch(script, model, backend, prompt):
    other = [token % 89 + 1 for token in prompt]
    trace(script, model, backend, torch.tensor([prompt, other, prompt[::-1]]))


def session(script, model, backend, prompt):
    with model.session(backend=backend):
        with model.trace(prompt):
            script.walk()
            kept = script.known[-1][1]
        script.known, script.whole = [("kept", kept * 2)], []
        with model.trace(prompt[::-1]):
            script.walk()
            script.finish()


KINDS = (trace, trace, trace, gradients, generation, invokes, invokes, padded, batch, batch, session)
TABLES = {gradients: SMOOTH, padded: FROM_THE_END}


def run(kind, seed, bench, places, backend):
    """What a block saved, or what it raised; and what it did."""
    rng = random.Random(seed)
    script = Script(seed, bench.model, places, writes=rng.choice((0.2, 0.6, 1.0)), tables=TABLES.get(kind, ALL))
    prompt = [rng.randrange(1, 90) for _ in range(rng.randint(3, 6))]
    with ExitStack() as stack:
        if kind is not gradients:
            bench.model._module.requires_grad_(False)
            stack.callback(bench.model._module.requires_grad_)
        try:
            kind(script, bench.model, backend, prompt)
        except Exception as error:
            return error, script.log
    return script.saved, script.log


def compare(seed, bench, places):
    """Whether the block was refused (``""``: it was not) by the service, or failed locally."""
    from interpd_client import InvalidGraph
    from interpd_client.nnsight import CannotRecord

    kind = random.Random(seed).choice(KINDS)
    local, log = run(kind, seed, bench, places, None)
    remote, told = run(kind, seed, bench, places, bench.backend)
    shown = f"{kind.__name__} {seed}\n" + "\n".join(log)
    if isinstance(remote, (CannotRecord, InvalidGraph)):
        assert str(remote).startswith("test_random_blocks.py:"), f"{shown}\nhas no line: {remote}"
        return "refused" if not isinstance(local, Exception) else "failed"
    if isinstance(local, Exception):
        return "failed"
    assert not isinstance(remote, Exception), f"{shown}\nraises {remote!r}"
    assert log == told, f"{shown}\n---\n" + "\n".join(told)
    for number, (here, there) in enumerate(zip(local, remote, strict=True)):
        assert (here.shape, here.dtype) == (there.shape, there.dtype), f"{shown}\n{number}"
        scale = max(1.0, float(here.detach().abs().nan_to_num().max())) if here.numel() else 1.0
        close = torch.allclose(here.detach(), there.detach(), rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
        assert close, f"{shown}\nsaved {number}: {here}\nand {there}"
    return ""


def places_of(bench):
    """Every module whose input or output begins with a tensor of the hidden size, in order."""
    from interpd_client.nnsight.layout import layout_of

    events = layout_of(bench.model._module, "input_ids", {}).events
    first = [(event, event.leaves[0]) for event in events if event.leaves and event.path]
    return [
        (event.path, event.port)
        for event, leaf in first
        if leaf.item in (0, None) and leaf.sizes[0] == "rows" and leaf.dtype.is_floating_point
    ]


@pytest.mark.parametrize(("fixture", "n_blocks"), [("gpt2", 200), ("llama", 100), ("opt", 50)])
def test_random_blocks_give_what_they_give_locally(request, fixture, n_blocks):
    bench = request.getfixturevalue(fixture)
    places = places_of(bench)
    outcomes = Counter(compare(seed, bench, places) for seed in range(n_blocks))
    assert outcomes[""] > n_blocks / 3, outcomes
