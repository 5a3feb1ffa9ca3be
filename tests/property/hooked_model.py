"""Graphs interpreted by hand: one prompt at a time, unpadded, through hooks on the bare Hugging Face model.

Shares no code with the engine. Each prompt runs in a greenlet of its own; a hook that needs a value of another prompt
which does not exist yet lets the others go on, so nothing here plans passes. The blocks and the attention are written
out once more, so that ``resid_mid``, scores and patterns are what their names say.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import MethodType
from unittest.mock import patch

import torch
from greenlet import getcurrent, greenlet
from torch.nn import functional
from transformers import DynamicCache

from interpd.graph.ir import Dots, Ref, Slice, Steps, references
from interpd.graph.types import TensorData

GPT2_PATHS = {
    "embed": "transformer.wte.output",
    "resid_pre": "transformer.h.{i}.input",
    "resid_mid": "transformer.h.{i}.mid",
    "resid_post": "transformer.h.{i}.output",
    "attn.q": "transformer.h.{i}.attn.c_attn.output",
    "attn.k": "transformer.h.{i}.attn.c_attn.output",
    "attn.v": "transformer.h.{i}.attn.c_attn.output",
    "attn.scores": "transformer.h.{i}.attn.scores",
    "attn.pattern": "transformer.h.{i}.attn.pattern",
    "attn.z": "transformer.h.{i}.attn.c_proj.input",
    "attn.out": "transformer.h.{i}.attn.c_proj.output",
    "mlp.pre": "transformer.h.{i}.mlp.c_fc.output",
    "mlp.post": "transformer.h.{i}.mlp.c_proj.input",
    "mlp.out": "transformer.h.{i}.mlp.output",
    "ln_final": "transformer.ln_f.output",
    "logits": "lm_head.output",
}
LLAMA_PATHS = {
    "embed": "model.embed_tokens.output",
    "resid_pre": "model.layers.{i}.input",
    "resid_mid": "model.layers.{i}.mid",
    "resid_post": "model.layers.{i}.output",
    "attn.q": "model.layers.{i}.self_attn.q_proj.output",
    "attn.k": "model.layers.{i}.self_attn.k_proj.output",
    "attn.v": "model.layers.{i}.self_attn.v_proj.output",
    "attn.q_rot": "model.layers.{i}.self_attn.q_rot",
    "attn.k_rot": "model.layers.{i}.self_attn.k_rot",
    "attn.scores": "model.layers.{i}.self_attn.scores",
    "attn.pattern": "model.layers.{i}.self_attn.pattern",
    "attn.z": "model.layers.{i}.self_attn.o_proj.input",
    "attn.out": "model.layers.{i}.self_attn.o_proj.output",
    "mlp.gate": "model.layers.{i}.mlp.gate_proj.output",
    "mlp.up": "model.layers.{i}.mlp.up_proj.output",
    "mlp.post": "model.layers.{i}.mlp.down_proj.input",
    "mlp.out": "model.layers.{i}.mlp.output",
    "ln_final": "model.norm.output",
    "logits": "lm_head.output",
}
EAGER = ("scores", "pattern", "q_rot", "k_rot")

OPS = {
    "torch.add": lambda x, y: x + y,
    "torch.sub": lambda x, y: x - y,
    "torch.mul": lambda x, y: x * y,
    "torch.neg": lambda x: -x,
    "torch.tanh": torch.tanh,
    "torch.relu": functional.relu,
    "torch.gt": lambda x, y: x > y,
    "torch.where": torch.where,
    "torch.roll": lambda x, shifts, dims: torch.roll(x, shifts, dims),
    "torch.flip": lambda x, dims: torch.flip(x, (dims,) if isinstance(dims, int) else dims),
    "torch.softmax": lambda x, dim: functional.softmax(x, dim),
    "torch.cumsum": lambda x, dim: torch.cumsum(x, dim),
    "torch.mean": lambda x, dim, keepdim=False: torch.mean(x, dim, keepdim=keepdim),
    "torch.sum": lambda x: x.sum(),
    "torch.cat": lambda xs, dim: torch.cat(list(xs), dim),
    "torch.layer_norm": lambda x, normalized_shape: functional.layer_norm(x, normalized_shape),
    "torch.topk": lambda x, k: torch.topk(x, k),
    "torch.argmax": lambda x, dim: torch.argmax(x, dim),
    "torch.einsum": lambda xs, equation: torch.einsum(equation, *xs),
    "torch.index_select": lambda x, index, dim: torch.index_select(x, dim, index),
    "tensor.to": lambda x, dtype: x.to(getattr(torch, dtype)),
    "tensor.detach": lambda x: x.detach(),
    "tensor.getitem": lambda x, index: x[index],
}


def setitem(x, index, value):
    x = x.clone()
    x[index] = value
    return x


OPS["tensor.setitem"] = setitem


class NotYet(Exception):
    """A read has not happened."""


@dataclass
class Prompt:
    """One prompt on its way through the model."""

    ids: list
    step: int = 0
    new: list = field(default_factory=list)
    reason: str = ""
    n_ran: int = 0


class HookedRun:
    """A request, interpreted. ``nudge``: (read, tensor) added to what is at the place of a read, for differences."""

    def __init__(self, model, request, ids, *, nudge=None):
        self.model, self.request, self.nudge = model, request, nudge
        self.nodes = request.graph.nodes
        self.is_gpt2 = model.config.model_type == "gpt2"
        self.prompts = [Prompt(list(own)) for own in ids]
        self.wrt = {node.inputs[1].node for node in self.nodes if node.op == "site.grad"}
        self.seen, self.handles, self.memo = {}, {}, {}
        self.stacked = self._stacked()
        self.current = None

    # Which nodes have a value per step, and at which steps

    def _stacked(self):
        if self.request.generation is None:
            return [None] * len(self.nodes)
        found = []
        for node in self.nodes:
            own = None
            if node.op in ("site.read", "site.write"):
                steps = node.steps or Steps()
                own = steps if steps.stop is None or steps.stop - steps.start > 1 else None
            else:
                inherited = [found[ref.node] for arg in node.inputs for ref in references(arg) if found[ref.node]]
                own = inherited[0] if inherited else None
            found.append(own)
        return found

    def _runs_at(self, node, step):
        steps = node.steps or Steps()
        return steps.start <= step < (steps.stop if steps.stop is not None else 1 << 30)

    # Values

    def value(self, ref, step):
        key = (ref.node, step if self.stacked[ref.node] else None)
        node = self.nodes[ref.node]
        if node.op == "site.read":
            if key not in self.seen:
                raise NotYet(ref)
            return self.seen[key]
        if key not in self.memo:
            self.memo[key] = self._computed(node, step)
        found = self.memo[key]
        return found[ref.output] if isinstance(found, tuple) else found

    def _computed(self, node, step):
        if node.op == "param.read":
            return self.model.get_parameter(node.params["name"]).detach()
        if node.op == "tokens.ids":
            return torch.tensor([self.prompts[node.invoke].ids])
        if node.op == "site.grad":
            return self._gradient(node, step)
        args = [self._filled(arg, step) for arg in node.inputs]
        if node.op == "module.call":
            module = self.model.get_submodule(node.params["module"])
            before, self.current = self.current, None
            try:
                return module(args[0])
            finally:
                self.current = before
        out = OPS[node.op](*args, **node.params)
        return tuple(out) if isinstance(out, tuple | list) else out

    def _gradient(self, node, step):
        target, handle = self.value(node.inputs[0], step), self.handles[node.inputs[1].node]
        found = None
        if target.requires_grad:
            found = torch.autograd.grad(target.sum(), handle, retain_graph=True, allow_unused=True)[0]
        found = torch.zeros_like(handle) if found is None else found
        return self._selected(found, self.nodes[node.inputs[1].node])

    def _filled(self, arg, step):
        if isinstance(arg, Ref):
            return self.value(arg, step)
        if isinstance(arg, TensorData):
            dtype = getattr(torch, arg.dtype)
            return torch.frombuffer(bytearray(arg.data), dtype=dtype).reshape(arg.shape)
        if isinstance(arg, Slice):
            return slice(arg.start, arg.stop, arg.step)
        if isinstance(arg, Dots):
            return ...
        if isinstance(arg, tuple):
            return tuple(self._filled(item, step) for item in arg)
        return arg

    # Sites

    def place_of(self, site):
        """(module path, port)"""
        if site.endswith((".input", ".output")):
            return tuple(site.rsplit(".", 1))
        layer, name = "", site
        if site.startswith("layers."):
            _, layer, name = site.split(".", 2)
        path = (GPT2_PATHS if self.is_gpt2 else LLAMA_PATHS)[name].format(i=layer)
        return tuple(path.rsplit(".", 1))

    def view(self, site, full):
        config, name = self.model.config, site.rpartition(".attn.")[2]
        if name in ("scores", "pattern") or "attn." not in site or site.endswith((".input", ".output")):
            return full
        if name.endswith("_rot"):
            return full.transpose(1, 2)
        if name == "out":
            return full
        if self.is_gpt2 and name in "qkv":
            width = full.shape[-1] // 3
            full = full[..., "qkv".index(name) * width :][..., :width]
        heads = config.num_attention_heads if name in ("q", "z") or self.is_gpt2 else config.num_key_value_heads
        return full.reshape(*full.shape[:-1], heads, full.shape[-1] // heads)

    def merged(self, site, full, value):
        name = site.rpartition(".attn.")[2]
        if name.endswith("_rot"):
            return value.transpose(1, 2)
        if "attn." in site and name in ("q", "k", "v") and self.is_gpt2:
            width = full.shape[-1] // 3
            full, first = full.clone(), "qkv".index(name) * width
            full[..., first : first + width] = value.reshape(*full.shape[:-1], width)
            return full
        return value.reshape(full.shape).clone()

    def _selected(self, value, node):
        positions = node.params.get("positions")
        if positions is None:
            return value
        names = self.axes[node.params["site"]]
        axis = next(i for i, name in enumerate(names) if name in ("pos", "query_pos"))
        return value.index_select(axis, torch.tensor([p % value.shape[axis] for p in positions]))

    def at(self, path, port, full):
        """Everything of the present prompt that happens at one place."""
        if self.current is None:
            return full
        invoke = self.current
        prompt, fresh = self.prompts[invoke], {}
        for index, node in enumerate(self.nodes):
            if node.op not in ("site.read", "site.write") or node.invoke != invoke:
                continue
            site = node.params["site"]
            if self.place_of(site) != (path, port) or not self._runs_at(node, prompt.step):
                continue
            if node.op == "site.read":
                full = self._read(index, node, full, fresh)
            else:
                value = self._wait(node, prompt.step)
                if value is None:
                    continue
                shape = self.view(site, full).shape
                while value.ndim > len(shape):
                    value = value[0]
                full = self.merged(site, full, value.to(full.dtype).broadcast_to(shape))
                fresh.clear()
        return full

    def _read(self, index, node, full, fresh):
        """``fresh``: what gradients are taken by, of the reads at this place since the last write."""
        site = node.params["site"]
        value = self.view(site, full).clone()
        if self.nudge is not None and self.nudge[0] == index:
            value = value + self.nudge[1]
            full = self.merged(site, full, value)
        if index in self.wrt:
            if site not in fresh:
                fresh.clear()
                fresh[site] = value if value.requires_grad else value.detach().requires_grad_()
                full = self.merged(site, full, fresh[site])
            self.handles[index] = value = fresh[site]
        key = (index, self.prompts[node.invoke].step if self.stacked[index] else None)
        self.seen[key] = self._selected(value, node)
        return full

    def _wait(self, node, step):
        """What is to be written, or ``None`` when it comes from a prompt that ended before that step."""
        while True:
            try:
                return self._filled(node.inputs[0], step)
            except NotYet as missing:
                if self.prompts[self.nodes[missing.args[0].node].invoke].reason:
                    return None
                invoke = self.current
                getcurrent().parent.switch()
                self.current = invoke

    # The model, written out where hooks cannot reach

    def _hooks(self):
        stack = ExitStack()
        for path, module in self.model.named_modules():
            before = module.register_forward_pre_hook(partial(self._before, path), with_kwargs=True)
            after = module.register_forward_hook(partial(self._after, path))
            stack.callback(before.remove)
            stack.callback(after.remove)
        blocks = self.model.transformer.h if self.is_gpt2 else self.model.model.layers
        base = "transformer.h" if self.is_gpt2 else "model.layers"
        block_forward = gpt2_block if self.is_gpt2 else llama_block
        for layer, block in enumerate(blocks):
            between = partial(self.at, f"{base}.{layer}", "mid")
            stack.enter_context(patch.object(block, "forward", MethodType(partial(block_forward, between), block)))
        names = {id(module): path for path, module in self.model.named_modules()}
        code = __import__(type(blocks[0]).__module__, fromlist=["x"])
        stack.enter_context(patch.object(code, "eager_attention_forward", partial(attention, self.at, names)))
        return stack

    def _before(self, path, module, args, kwargs):
        if args and isinstance(args[0], torch.Tensor):
            return (self.at(path, "input", args[0]), *args[1:]), kwargs
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": self.at(path, "input", kwargs["hidden_states"])}
        return None

    def _after(self, path, module, args, output):
        if isinstance(output, torch.Tensor):
            return self.at(path, "output", output)
        if isinstance(output, dict):
            first = next(iter(output))
            output[first] = self.at(path, "output", output[first])
            return output
        if isinstance(output, tuple) and isinstance(output[0], torch.Tensor):
            return (self.at(path, "output", output[0]), *output[1:])
        return None

    # The whole request

    def run(self, axes, ends=()):
        """Values by output name; ``axes``: the words for the dimensions of each site."""
        self.axes = axes
        sites = [node.params["site"] for node in self.nodes if "site" in node.params]
        eager = any(site.rpartition(".")[2] in EAGER for site in sites)
        before = self.model.config._attn_implementation
        self.model.config._attn_implementation = "eager" if eager else before
        try:
            with self._hooks(), torch.set_grad_enabled(bool(self.wrt)):
                self._run_prompts(ends)
                return {name: self._output(ref) for name, ref in self.request.graph.outputs.items()}
        finally:
            self.model.config._attn_implementation = before

    def _run_prompts(self, ends):
        body = self._plain if self.request.generation is None else partial(self._generate, ends)
        waiting = [(invoke, greenlet(partial(body, invoke))) for invoke in range(len(self.prompts))]
        turns = 0
        while waiting:
            for invoke, thread in waiting:
                self.current = invoke
                thread.switch()
            waiting = [(invoke, thread) for invoke, thread in waiting if not thread.dead]
            turns += 1
            assert turns < 10_000, "the prompts wait for each other"
        self.current = None

    def _plain(self, invoke):
        self.current = invoke
        self.model(torch.tensor([self.prompts[invoke].ids]), use_cache=False)

    def _generate(self, ends, invoke):
        options, prompt = self.request.generation, self.prompts[invoke]
        cache, ids = DynamicCache(config=self.model.config), torch.tensor([prompt.ids])
        generator = torch.Generator()
        generator.manual_seed((options.seed or 0) + invoke)
        while not prompt.reason:
            self.current, prompt.step = invoke, len(prompt.new)
            logits = self.model(ids, past_key_values=cache, use_cache=True).logits[0, -1].float()
            prompt.n_ran += 1
            token = int(chosen(logits, options, generator))
            prompt.new.append(token)
            if token in ends and not options.ignore_eos:
                prompt.reason = "eos"
            elif token in options.stop_token_ids:
                prompt.reason = "stop_token"
            elif len(prompt.new) == options.max_new_tokens:
                prompt.reason = "length"
            ids = torch.tensor([[token]])

    def _output(self, ref):
        steps = self.stacked[ref.node]
        if steps is None:
            try:
                return self.value(ref, None).detach()
            except NotYet:
                return None
        found = []
        stop = self.request.generation.max_new_tokens if steps.stop is None else steps.stop
        for step in range(steps.start, stop):
            try:
                found.append(self.value(ref, step).detach())
            except NotYet:
                break
        return torch.stack(found) if found else None


def chosen(logits, options, generator):
    if not options.do_sample:
        return logits.argmax()
    logits = logits / options.temperature
    if options.top_k:
        logits[logits < logits.topk(options.top_k).values[-1]] = -torch.inf
    probabilities = logits.softmax(-1)
    if options.top_p < 1:
        order = probabilities.argsort(descending=True)
        before = probabilities[order].cumsum(0) - probabilities[order]
        logits[order[before >= options.top_p]] = -torch.inf
        probabilities = logits.softmax(-1)
    return torch.multinomial(probabilities, 1, generator=generator)


def gpt2_block(between, block, hidden_states, past_key_values=None, attention_mask=None, *_, **kwargs):
    attended = block.attn(
        block.ln_1(hidden_states), past_key_values=past_key_values, attention_mask=attention_mask, **kwargs
    )[0]
    middle = between(attended + hidden_states)
    return middle + block.mlp(block.ln_2(middle))


def llama_block(between, block, hidden_states, **kwargs):
    attended = block.self_attn(hidden_states=block.input_layernorm(hidden_states), **kwargs)[0]
    middle = between(hidden_states + attended)
    return middle + block.mlp(block.post_attention_layernorm(middle))


def attention(at, names, module, query, key, value, mask, scaling=None, **_):
    path = names[id(module)]
    query, key = at(path, "q_rot", query), at(path, "k_rot", key)
    shared = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(shared, dim=1) for heads in (key, value))
    scores = at(path, "scores", (query @ key.transpose(2, 3)) * (scaling or query.shape[-1] ** -0.5))
    masked = scores if mask is None else scores + mask
    softmax_dtype = torch.float32 if "self_attn" in path else None
    pattern = at(path, "pattern", functional.softmax(masked, -1, dtype=softmax_dtype).to(value.dtype))
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


def relative_error(found, expected, floor=1e-2):
    """The greatest deviation by the size of what was expected, or by ``floor`` where that is less (gradients that are
    zero but for rounding); infinite where shapes or non-finite places differ."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    if found.shape != expected.shape or not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    if not prod(found.shape):
        return 0.0
    found, expected = (value.double().nan_to_num(0.0, 0.0, 0.0) for value in (found, expected))
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), floor)
