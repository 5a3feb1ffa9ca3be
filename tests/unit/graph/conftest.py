"""A small model as data: two layers, width 8, and one plugin with an artifact, an operation and a method."""

import pytest

from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.check import check
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.graph.schema import (
    AbsentSite,
    ArtifactInfo,
    ArtifactSchema,
    Manifest,
    ModelInfo,
    ModuleSchema,
    OpSchema,
    ParamSchema,
    PortSchema,
    SiteSchema,
)
from interpd.graph.types import Dim, TensorType

BATCH, POS, D_MODEL, D_VOCAB = Dim("batch", 1), Dim("pos"), Dim("d_model", 8), Dim("d_vocab", 50)
RESID = TensorType("float32", (BATCH, POS, D_MODEL))
PATTERN = TensorType("float32", (BATCH, Dim("head", 2), Dim("query_pos"), Dim("key_pos")))


def _sites():
    places = [("embed", RESID, -1)]
    for layer in range(2):
        places += [
            (f"layers.{layer}.{part}", RESID, layer) for part in ("resid_pre", "attn.out", "mlp.out", "resid_post")
        ]
        places.insert(-2, (f"layers.{layer}.attn.pattern", PATTERN, layer))
    places.append(("logits", TensorType("float32", (BATCH, POS, D_VOCAB)), 2))
    return {
        name: SiteSchema(name, kind, order, layer, writable=name != "embed", eager_attention="pattern" in name)
        for order, (name, kind, layer) in enumerate(places)
    }


def _port(name, text, dtype="float"):
    return PortSchema(name, TensorType(dtype, tuple(Dim(word) for word in text.split())))


ENCODE = OpSchema(
    "sae.encode",
    1,
    "feature activations",
    inputs=(_port("resid", "batch pos d_model"),),
    params=(ParamSchema("sae", "artifact:sae"),),
    outputs=(_port("out", "batch pos d_sae"),),
    plugin="sae",
)
SCORE = OpSchema(
    "probe.score",
    1,
    "a method",
    inputs=(_port("direction", "d_model"),),
    params=(ParamSchema("n", "int", required=False, default=3),),
    outputs=(_port("out", "n"),),
    plugin="probe",
    is_method=True,
)


@pytest.fixture
def manifest():
    info = ModelInfo(
        "tiny", "tiny", "sha256:0", "Tiny", "llama", 1000, 2, {"d_model": 8, "d_vocab": 50}, 64, "float32", "cpu"
    )
    return Manifest(
        model=info,
        sites=_sites(),
        absent_sites=(AbsentSite("layers.0.attn.scores", "this attention does not compute them"),),
        modules={"ln_f": ModuleSchema("ln_f", "LayerNorm", 8, 8, "d_model"), "wte": ModuleSchema("wte", "Embedding")},
        parameters={"wte.weight": TensorType("float32", (D_VOCAB, D_MODEL))},
        ops={**BUILTIN_OPS, "sae.encode": ENCODE, "probe.score": SCORE},
        artifact_kinds={"sae": ArtifactSchema("sae", "sae", ())},
        artifacts={
            "sae_8": ArtifactInfo("sae_8", "sae", "0", 1, (("d_model", 8), ("d_sae", 32))),
            "sae_16": ArtifactInfo("sae_16", "sae", "0", 1, (("d_model", 16), ("d_sae", 64))),
        },
        plugins=(),
    )


@pytest.fixture
def ask():
    """A request from nodes, given as ``Node``s, and outputs by node number."""

    def make(*nodes, outputs=None, prompts=1, generation=None):
        refs = {name: ref if isinstance(ref, Ref) else Ref(ref) for name, ref in (outputs or {}).items()}
        texts = tuple(Prompt(text="hello") for _ in range(prompts)) if isinstance(prompts, int) else prompts
        return RunRequest("run", "tiny", texts, Graph(nodes, refs), generation)

    return make


@pytest.fixture
def found(manifest):
    """(code, path) of every violation of a request."""

    def codes(request, n_tokens=None):
        report = check(request, manifest, n_tokens)
        return [(violation.code, violation.path) for violation in report.violations]

    return codes


@pytest.fixture
def read():
    def make(site="layers.0.resid_post", invoke=0, steps=None, label="", **params):
        return Node("site.read", (), {"site": site, **params}, invoke=invoke, steps=steps, label=label)

    return make


@pytest.fixture
def write():
    def make(value, site="layers.1.resid_pre", invoke=0, steps=None, label=""):
        value = Ref(value) if isinstance(value, int) else value
        return Node("site.write", (value,), {"site": site}, invoke=invoke, steps=steps, label=label)

    return make
