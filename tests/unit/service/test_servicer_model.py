import grpc
import pytest

from interpd import errors
from interpd.wire.manifests import manifest_from_proto
from interpd.wire.prompts import tokens_from_proto
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import model_service_pb2 as pb
from interpd.wire.v1 import model_service_pb2_grpc, prompt_pb2


@pytest.fixture
def stub(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_models_are_listed_with_their_states(stub):
    answer = await stub.ListModels(pb.ListModelsRequest())
    assert [(model.name, model.state) for model in answer.models] == [
        ("facts", pb.MODEL_STATE_READY),
        ("big", pb.MODEL_STATE_LOADING),
    ]
    assert answer.models[0].info.n_layers == 6
    assert not answer.models[1].HasField("info")


async def test_a_model_comes_with_its_whole_manifest(front, stub):
    answer = await stub.GetModel(pb.GetModelRequest(model="facts"))
    assert manifest_from_proto(answer.manifest) == front.manifest("facts")
    assert answer.status.n_ready == 1


async def test_an_unknown_model_is_not_found(stub):
    error = await failure(stub.GetModel(pb.GetModelRequest(model="fact")))
    assert (type(error), error.facts) == (errors.ModelNotFound, {"model": "fact"})


async def test_a_model_that_is_being_taken_away_is_not_found(front, stub):
    front.statuses = []
    assert type(await failure(stub.GetModel(pb.GetModelRequest(model="facts")))) is errors.ModelNotFound


async def test_a_model_is_loaded_and_taken_away(front, stub):
    spec = pb.ModelSpec(source="org/gpt", name="gpt")
    answer = await stub.LoadModel(pb.LoadModelRequest(spec=spec))
    assert (answer.status.name, answer.status.detail) == ("gpt", "org/gpt")
    await stub.UnloadModel(pb.UnloadModelRequest(model="gpt"))
    assert [status.name for status in front.statuses] == ["facts", "big"]


async def test_a_spec_without_a_source_is_refused(stub):
    assert type(await failure(stub.LoadModel(pb.LoadModelRequest()))) is errors.InvalidRequest


async def test_an_adapter_is_loaded_and_taken_away(front, stub):
    spec = pb.AdapterSpec(name="french", source="org/french", revision="abc")
    answer = await stub.LoadAdapter(pb.LoadAdapterRequest(model="facts", spec=spec))
    assert (answer.adapter.name, answer.adapter.source) == ("french", "org/french")
    assert front.adapters == {("facts", "french"): "abc"}
    await stub.UnloadAdapter(pb.UnloadAdapterRequest(model="facts", adapter="french"))
    assert front.adapters == {}
    error = await failure(stub.UnloadAdapter(pb.UnloadAdapterRequest(model="facts", adapter="french")))
    assert (type(error), error.facts) == (errors.AdapterNotFound, {"adapter": "french"})


async def test_prompts_are_tokenised(stub):
    request = pb.TokenizeRequest(model="facts", prompts=[prompt_pb2.Prompt(text="ab")] * 2)
    answer = await stub.Tokenize(request)
    assert [tokens_from_proto(tokens, "", None).ids for tokens in answer.tokens] == [(1, 2), (1, 2)]


async def test_a_prompt_without_content_is_refused_with_its_path(stub):
    request = pb.TokenizeRequest(model="facts", prompts=[prompt_pb2.Prompt(text="ab"), prompt_pb2.Prompt()])
    error = await failure(stub.Tokenize(request))
    assert str(error) == "malformed request: prompts[1]: one of text, chat and token_ids is needed, got none"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "../../evil"}, "may hold letters"),
        ({"name": ".hidden"}, "may hold letters"),
        ({"name": "a/b c"}, "may hold letters"),
        ({"source": "/"}, "may hold letters"),
        ({"num_cpus": -0.5}, "spec.num_cpus: a number, at least 0, is needed"),
        ({"replicas": 65}, "replicas must be 1 to 64"),
        ({"dtype": "int8"}, "dtype 'int8' is none of"),
        ({"device": "tpu"}, "device 'tpu' is none of"),
    ],
    ids=str,
)
async def test_a_model_that_cannot_be_meant_is_refused_before_anything_is_made(front, stub, fields, reason):
    spec = pb.ModelSpec(**({"source": "org/model"} | fields))
    error = await failure(stub.LoadModel(pb.LoadModelRequest(spec=spec)))
    assert type(error) is errors.InvalidRequest
    assert reason in error.message


async def test_a_model_without_a_name_gets_the_last_part_of_its_source(stub):
    answer = await stub.LoadModel(pb.LoadModelRequest(spec=pb.ModelSpec(source="org/model")))
    assert answer.status.name == "model"
