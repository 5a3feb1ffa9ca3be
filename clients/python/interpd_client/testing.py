"""A service without a server, so that programs that use the client can be tested in milliseconds.

transport = FakeTransport(fake_manifest(n_layers=2))
with Client(transport) as client, client.model("fake").trace("two words") as t:
    t.save(h=t.layers[1].resid_post)
assert transport.requests[0].graph.nodes[0].op == "site.read"
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from interpd.errors import (
    AdapterNotFound,
    ArtifactNotFound,
    BlobNotFound,
    InterpdError,
    ModelNotFound,
    RunNotFound,
)
from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.check import CheckReport, check
from interpd.graph.digest import graph_digest
from interpd.graph.ir import Blob, Node, Prompt
from interpd.graph.run import (
    Cost,
    Done,
    Event,
    Generated,
    Provenance,
    Queued,
    Result,
    RunRequest,
    Started,
    TokenGenerated,
    Tokens,
)
from interpd.graph.schema import (
    AdapterInfo,
    ArtifactInfo,
    Manifest,
    ModelInfo,
    ModuleSchema,
    OpSchema,
    PluginInfo,
    SiteSchema,
)
from interpd.graph.types import Dim, TensorData, TensorType
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd.specs import AdapterSpec, ModelSpec
from interpd_client.transport import EventStream

NUMPY_DTYPES = {"int": "int64", "float": "float32", "any": "float32", "bfloat16": "float32"}
"""Families of dtypes, and what numpy lacks, as the zeros of a fake service."""

Answer = Callable[[RunRequest], Mapping[str, object] | Iterable[Event]]
"""What a fake service does with a request: arrays by flat output name, or the events themselves; it may raise."""


def fake_manifest(
    name: str = "fake",
    *,
    n_layers: int = 2,
    n_encoder_layers: int = 0,
    d_model: int = 8,
    d_vocab: int = 32,
    ops: Sequence[OpSchema] = (),
) -> Manifest:
    """The manifest of a small model with residual, attention-output and MLP sites and all built-in operations.

    ``n_encoder_layers``: how many of ``n_layers`` are those of an encoder; with 1 or more it is an encoder-decoder
    model. ``ops`` adds operations of plugins.
    """
    sizes = {"d_model": d_model, "d_vocab": d_vocab}
    names = _names(n_layers, n_encoder_layers)
    sites = {site: _site(site, order, sizes, (n_layers, n_encoder_layers)) for order, site in enumerate(names)}
    raw = f"model.layers.{n_layers - 1}.output"
    sites[raw] = SiteSchema(raw, sites[names[-3]].type, len(names) - 3, n_layers - 1, canonical=False)
    modules = {
        "model.norm": ModuleSchema("model.norm", "RMSNorm", d_model, d_model, "d_model"),
        "lm_head": ModuleSchema("lm_head", "Linear", d_model, d_vocab, "d_vocab"),
    }
    return Manifest(
        model=ModelInfo(
            name,
            name,
            revision="fake",
            architecture="FakeForCausalLM",
            family="fake",
            n_parameters=0,
            n_layers=n_layers,
            sizes=sizes,
            max_positions=0,
            dtype="float32",
            device="cpu",
            n_encoder_layers=n_encoder_layers,
        ),
        sites=sites,
        absent_sites=(),
        modules=modules,
        parameters={"lm_head.weight": _type(("d_vocab", d_vocab), ("d_model", d_model))},
        ops={**BUILTIN_OPS, **{op.name: op for op in ops}},
        artifact_kinds={},
        artifacts={},
        plugins=(),
        engine="fake",
    )


def _names(n_layers: int, n_encoder_layers: int) -> list[str]:
    """The sites of the model in the order of the pass."""
    stacks = [("", n_layers)]
    if n_encoder_layers:
        stacks = [("encoder.", n_encoder_layers), ("decoder.", n_layers - n_encoder_layers)]
    names: list[str] = []
    for stack, depth in stacks:
        names.append(f"{stack}embed")
        for layer in range(depth):
            names += [f"{stack}layers.{layer}.{site}" for site in ("resid_pre", "attn.out", "mlp.out", "resid_post")]
        names.append(f"{stack}ln_final")
    return [*names, "logits"]


def _site(name: str, order: int, sizes: Mapping[str, int], depths: tuple[int, int]) -> SiteSchema:
    (n_layers, n_encoder_layers), parts = depths, name.split(".")
    is_encoder = parts[0] == "encoder"
    last, axis = "d_vocab" if name == "logits" else "d_model", "src_pos" if is_encoder else "pos"
    first = n_encoder_layers if parts[0] == "decoder" else 0
    if "layers" in parts:
        layer = first + int(parts[parts.index("layers") + 1])
    elif parts[-1] == "embed":
        layer = first - 1
    else:
        layer = n_encoder_layers - 1 if is_encoder else n_layers
    kind = _type(("batch", 1), (axis, None), (last, sizes[last]))
    return SiteSchema(name, kind, order, layer, prefill_only=is_encoder)


def _type(*dims: tuple[str, int | None]) -> TensorType:
    return TensorType("float32", tuple(Dim(name, size) for name, size in dims))


@final
class FakeTransport:
    """Answers from memory, and keeps everything that was asked.

    A word of a prompt is a token. A request is checked as a service checks it. Without an ``answer`` every result is
    zeros of the type that the checker finds, and a generation writes ``" word"`` until its end.

    Args:
        manifest: The model that is resident.
        answer: What to do with a request instead.
    """

    def __init__(self, manifest: Manifest, answer: Answer | None = None) -> None:
        self.manifests: dict[str, Manifest] = {manifest.model.name: manifest}
        """The resident models; tests may add some."""
        self.requests: list[RunRequest] = []
        """Every run that was sent, oldest first."""
        self.blobs: dict[str, TensorData] = {}
        """Every constant that was uploaded, by digest."""
        self.files: dict[tuple[str, str], bytes] = {}
        """Every artifact that was uploaded, by model and name."""
        self.cancelled: list[str] = []
        """The runs that the client ended."""
        self.n_tokenized: int = 0
        """How many prompts were tokenised by request of the client."""
        self.is_closed = False
        self._answer = answer
        self._kept: dict[str, RunRequest] = {}

    def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model of ``manifests``."""
        return tuple(ModelStatus(name, "ready", info=one.model, n_ready=1) for name, one in self.manifests.items())

    def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        if model not in self.manifests:
            raise ModelNotFound(f"no model {model!r}; there is {', '.join(self.manifests)}", model=model)
        return self.manifests[model]

    def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """A new model that looks like ``fake_manifest``."""
        name = spec.name or spec.source.rpartition("/")[2]
        self.manifests[name] = fake_manifest(name)
        return ModelStatus(name, "ready", info=self.manifests[name].model, n_ready=1)

    def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        del self.manifests[self.manifest(model, timeout_s).model.name]

    def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """One token per word."""
        self.n_tokenized += len(prompts)
        has_encoder = self.manifests[model].model.has_encoder
        return tuple(fake_tokens(prompt, has_encoder=has_encoder) for prompt in prompts)

    def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """What the checker says, with token counts."""
        manifest = self.manifest(request.model, timeout_s)
        return check(request, manifest, [tokens.lengths for tokens in self._tokens(request)])

    def run(self, request: RunRequest) -> EventStream:
        """The events of the answer."""
        self.requests.append(request)
        self._kept[request.run_id] = request
        return FakeStream(self._events(request))

    def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a run that was sent before, from number ``start`` on."""
        if run_id not in self._kept:
            raise RunNotFound(f"no run {run_id!r}", run=run_id)
        return FakeStream(self._events(self._kept[run_id]), start)

    def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Notes the wish in ``cancelled``."""
        self.cancelled.append(run_id)

    def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Keeps a constant in ``blobs``."""
        self.blobs[digest] = tensor

    def put_artifact(self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None) -> ArtifactInfo:
        """The artifact; its bytes are kept in ``files``, and not looked at."""
        known = self.manifest(model, timeout_s)
        self.files[model, name] = data
        info = ArtifactInfo(name, kind, hashlib.sha256(data).hexdigest(), len(data))
        self.manifests[model] = replace(known, artifacts={**known.artifacts, name: info})
        return info

    def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """What was uploaded."""
        if (model, name) not in self.files:
            raise ArtifactNotFound(f"model {model!r} has no artifact {name!r}", artifact=name)
        return self.files[model, name]

    def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes the artifact out of ``files`` and the manifest."""
        self.get_artifact(model, name, timeout_s)
        known = self.manifests[model]
        left = {key: info for key, info in known.artifacts.items() if key != name}
        self.manifests[model] = replace(known, artifacts=left)
        del self.files[model, name]

    def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts of the manifest."""
        return tuple(self.manifest(model, timeout_s).artifacts.values())

    def load_adapter(self, model: str, spec: AdapterSpec, timeout_s: float | None) -> AdapterInfo:
        """The adapter, listed in the manifest; nothing is read."""
        known = self.manifest(model, timeout_s)
        info = AdapterInfo(spec.name, spec.source, "sha256:fake", "LORA")
        self.manifests[model] = replace(known, adapters={**known.adapters, spec.name: info})
        return info

    def unload_adapter(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes the adapter out of the manifest."""
        known = self.manifest(model, timeout_s)
        if name not in known.adapters:
            raise AdapterNotFound(f"model {model!r} has no adapter {name!r}", adapter=name)
        left = {key: info for key, info in known.adapters.items() if key != name}
        self.manifests[model] = replace(known, adapters=left)

    def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins of each manifest."""
        return {name: manifest.plugins for name, manifest in self.manifests.items()}

    def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of a daemon that only accepted."""
        return Statistics(uptime_s=1.0, draining=False, n_accepted=len(self.requests))

    def close(self) -> None:
        """Notes it in ``is_closed``."""
        self.is_closed = True

    def _events(self, request: RunRequest) -> Iterator[Event]:
        missing = next((digest for digest in _blobs(request.graph.nodes) if digest not in self.blobs), None)
        if missing is not None:
            raise BlobNotFound(f"no constant {missing}", blob=missing)
        self.validate(request, None).raise_if_bad()
        found = self._answer(request) if self._answer is not None else self._zeros(request)
        if not isinstance(found, Mapping):
            yield from found
            return
        yield Queued(request.run_id, 0, "waiting for a worker")
        yield Started(request.run_id, self._tokens(request))
        generated = _generated(request)
        if request.stream_tokens:
            for item in generated:
                for step, token in enumerate(item.token_ids):
                    yield TokenGenerated(request.run_id, item.invoke, step, token, " word")
        for name, value in found.items():
            yield Result(request.run_id, str(name), TensorData.from_numpy(np.asarray(value)))
        n_tokens = sum(tokens.lengths.total or 0 for tokens in self._tokens(request))
        cost = Cost(n_tokens=n_tokens, n_layers_run=0, n_passes=1, bytes_returned=0)
        yield Done(request.run_id, self._provenance(request), cost, generated)

    def _tokens(self, request: RunRequest) -> tuple[Tokens, ...]:
        has_encoder = self.manifests[request.model].model.has_encoder
        return tuple(fake_tokens(prompt, has_encoder=has_encoder) for prompt in request.prompts)

    def _zeros(self, request: RunRequest) -> Mapping[str, object]:
        types = self.validate(request, None).types
        zeros: dict[str, object] = {}
        for name, ref in request.graph.outputs.items():
            kind = (types[ref.node] or ())[ref.output]
            dtype = NUMPY_DTYPES.get(kind.dtype, kind.dtype)
            zeros[name] = np.zeros([dim.size or 1 for dim in kind.dims], dtype)
        return zeros

    def _provenance(self, request: RunRequest) -> Provenance:
        digest = graph_digest(request.graph, request.prompts, request.generation)
        return Provenance(digest, request.model, "fake", (), "fake", "float32", "cpu", adapter=request.adapter)


@final
class FakeStream:
    """Events from a list, numbered as a service numbers them; an ``InterpdError`` among them is raised."""

    def __init__(self, events: Iterable[Event | InterpdError], start: int = 0) -> None:
        self._events = iter(events)
        self._start = start
        self._next = 0

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out."""
        return self._next

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            if isinstance(event, InterpdError):
                raise event
            self._next += 1
            if self._next > self._start:
                yield event

    def close(self) -> None:
        """Forgets the rest."""
        self._events = iter(())


def fake_tokens(prompt: Prompt, *, has_encoder: bool = False) -> Tokens:
    """The words of a prompt as tokens, with ids by their length; ids as they are given.

    ``has_encoder``: whether there is a target too, which begins with the token 0.
    """
    text = prompt.text if prompt.text is not None else "\n".join(f"{r}: {c}" for r, c in prompt.messages or ())
    source = _side(prompt.token_ids, text)
    if not has_encoder:
        return source
    own = _side(prompt.target_ids if prompt.target_text is None else None, prompt.target_text or "")
    return replace(source, target=Tokens((0, *own.ids), ("<s>", *own.strings), ((0, 0), *own.offsets), own.text))


def _side(ids: tuple[int, ...] | None, text: str) -> Tokens:
    if ids is not None:
        strings = tuple(f"<{number}>" for number in ids)
        return Tokens(ids, strings, ((0, 0),) * len(strings), "".join(strings))
    found = list(re.finditer(r"\s*\S+", text))
    strings = tuple(one.group() for one in found)
    return Tokens(tuple(len(one) for one in strings), strings, tuple(one.span() for one in found), text)


def _blobs(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        for arg in (*node.inputs, *node.params.values()):
            if isinstance(arg, Blob):
                yield arg.digest


def _generated(request: RunRequest) -> tuple[Generated, ...]:
    if request.generation is None:
        return ()
    n_new = request.generation.max_new_tokens
    ids = tuple(range(n_new))
    return tuple(Generated(invoke, ids, " word" * n_new, "length") for invoke in range(len(request.prompts)))
