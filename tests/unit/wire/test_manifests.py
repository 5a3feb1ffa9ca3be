import pytest

from interpd.errors import DataLoss, InvalidRequest
from interpd.graph.schema import (
    AbsentSite,
    AdapterInfo,
    ArtifactInfo,
    ArtifactSchema,
    Limits,
    Manifest,
    ModelInfo,
    ModuleSchema,
    OpSchema,
    ParamSchema,
    PluginInfo,
    PortSchema,
    SiteSchema,
)
from interpd.graph.types import Dim, TensorType
from interpd.specs import AdapterSpec, ModelSpec
from interpd.wire.manifests import manifest_from_proto, manifest_to_proto, model_spec_from_proto, model_spec_to_proto
from interpd.wire.v1 import manifest_pb2, model_service_pb2

RESID = TensorType("float16", (Dim("batch", 1), Dim("pos"), Dim("d_model", 256)))
OP = OpSchema(
    name="sae.encode",
    version=2,
    summary="feature activations",
    inputs=(
        PortSchema("resid", RESID),
        PortSchema("rest", None, variadic=True, optional=True, allows_const=True, recomputed=True),
    ),
    params=(
        ParamSchema("sae", "artifact:sae"),
        ParamSchema("k", "int", required=False, default=8, choices=(8, 16), doc="how many"),
        ParamSchema("dims", "ints", required=False, default=(0, -1)),
    ),
    outputs=(PortSchema("acts", TensorType("float", (Dim("batch"), Dim("d_sae")))),),
    plugin="sae",
    is_method=True,
    rows_mix=True,
    differentiable=False,
    shape_rule="",
    doc="long",
    paper="arXiv:2309.08600",
)
MANIFEST = Manifest(
    model=ModelInfo(
        "facts", "hub/facts", "abc", "T5", "t5", 2_000_000, 6, {"d_model": 256}, 512, "float32", "cpu", False, 2, "T5T"
    ),
    sites={
        "embed": SiteSchema("embed", RESID, 0, prefill_only=True),
        "layers.3.attn.pattern": SiteSchema(
            "layers.3.attn.pattern", RESID, 40, 3, False, False, False, True, doc="after the softmax"
        ),
    },
    absent_sites=(AbsentSite("layers.0.attn.scores", "no eager attention"),),
    modules={"lm_head": ModuleSchema("lm_head", "Linear", 256, 512, "d_vocab"), "m": ModuleSchema("m", "Rotary")},
    parameters={"lm_head.weight": TensorType("bfloat16", (Dim("", 512), Dim("", 256)))},
    ops={OP.name: OP},
    artifact_kinds={"sae": ArtifactSchema("sae", "sae", (("w_enc", RESID),), "weights")},
    artifacts={"l3": ArtifactInfo("l3", "sae", "ab" * 32, 1 << 40, (("d_sae", 24576),))},
    plugins=(
        PluginInfo("sae", "interpd-sae", "0.2", "loaded", "", ("sae.encode",)),
        PluginInfo("lrc", "interpd-lrc", "0.1", "broken", "no annotation"),
        PluginInfo("x", "x", "1", "not_allowed"),
    ),
    limits=Limits(n_nodes=5, run_s=1.5),
    engine="interpd 0.1.0",
    adapters={
        "french": AdapterInfo("french", "org/french", "sha256:1", "LORA", 1 << 40, 64),
        "odd": AdapterInfo("odd", "/there", problem="it was trained on another model"),
    },
)


def test_a_manifest_comes_back():
    data = manifest_to_proto(MANIFEST).SerializeToString()
    assert manifest_from_proto(manifest_pb2.Manifest.FromString(data)) == MANIFEST


def test_a_manifest_that_this_version_cannot_read_is_data_loss():
    proto = manifest_to_proto(MANIFEST)
    proto.sites[0].type.dtype = 99
    proto.plugins[0].status = 99
    with pytest.raises(DataLoss) as caught:
        manifest_from_proto(proto)
    assert "sites.embed.type.dtype: dtype 99 is none of" in str(caught.value)
    assert "plugins.sae.status: status 99 is none of" in str(caught.value)


def test_a_default_that_no_graph_could_hold_is_refused():
    bad = OpSchema("a.b", 1, "", (), (ParamSchema("k", "any", required=False, default=[1]),))
    with pytest.raises(InvalidRequest, match=r"a\.b\.k\.default: a list cannot stand in a graph"):
        manifest_to_proto(Manifest(MANIFEST.model, {}, (), {}, {}, {"a.b": bad}, {}, {}, ()))


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("gpt2"),
        ModelSpec("a/b", "name", "main", "float16", "cuda:1", 0.5, 2.5, 3, (AdapterSpec("x", "/x"),)),
        ModelSpec("gpt2", adapters=(AdapterSpec("x", "o/x", "abc"), AdapterSpec("y", "/y"))),
    ],
    ids=["short", "full", "adapters"],
)
def test_a_model_spec_comes_back(spec):
    assert model_spec_from_proto(model_spec_to_proto(spec)) == spec


@pytest.mark.parametrize("fields", [{"name": "../x", "source": "/x"}, {"name": "x"}, {"source": "/x"}])
def test_an_adapter_spec_without_sense_is_refused(fields):
    with pytest.raises(InvalidRequest, match=r"adapter: (name|no source)"):
        model_spec_from_proto(
            model_service_pb2.ModelSpec(source="m", adapters=[model_service_pb2.AdapterSpec(**fields)])
        )


def test_a_model_spec_without_sense_is_refused_with_every_problem():
    proto = model_service_pb2.ModelSpec(num_gpus=float("nan"), num_cpus=-1, replicas=0)
    with pytest.raises(InvalidRequest) as caught:
        model_spec_from_proto(proto)
    assert caught.value.facts["fields"] == "spec.source, spec.num_gpus, spec.num_cpus, spec.replicas"
