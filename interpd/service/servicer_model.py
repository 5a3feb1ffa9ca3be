"""ModelService: which models are resident, what they offer, loading, unloading, tokenising."""

from interpd.errors import ModelNotFound
from interpd.scheduler.interface import Front, ModelStatus
from interpd.service.interceptors import Call
from interpd.service.messages import status_to_proto
from interpd.specs import checked_model
from interpd.wire.manifests import adapter_spec_from_proto, manifest_to_proto, model_spec_from_proto
from interpd.wire.problems import Problems
from interpd.wire.prompts import prompt_from_proto, tokens_to_proto
from interpd.wire.schemas import adapter_to_proto
from interpd.wire.v1 import model_service_pb2 as pb


class ModelServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """Every model that is loaded, loading or failed."""
        return pb.ListModelsResponse(models=[status_to_proto(status) for status in self._front.models()])

    async def get_model(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """One model's status and manifest."""
        manifest = self._front.manifest(request.model)
        return pb.GetModelResponse(
            status=status_to_proto(self._status(request.model)), manifest=manifest_to_proto(manifest)
        )

    async def load_model(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        """The status of a model once it serves."""
        status = await self._front.load(checked_model(model_spec_from_proto(request.spec), "spec"))
        return pb.LoadModelResponse(status=status_to_proto(status))

    async def unload_model(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:
        """Nothing, once the model is gone."""
        await self._front.unload(request.model)
        return pb.UnloadModelResponse()

    async def load_adapter(self, request: pb.LoadAdapterRequest, call: Call) -> pb.LoadAdapterResponse:
        """The adapter once it can be used."""
        info = await self._front.load_adapter(request.model, adapter_spec_from_proto(request.spec))
        return pb.LoadAdapterResponse(adapter=adapter_to_proto(info))

    async def unload_adapter(self, request: pb.UnloadAdapterRequest, call: Call) -> pb.UnloadAdapterResponse:
        """Nothing, once the adapter is gone."""
        await self._front.unload_adapter(request.model, request.adapter)
        return pb.UnloadAdapterResponse()

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        """The prompts as the model's tokenizer sees them."""
        problems = Problems()
        prompts = [prompt_from_proto(prompt, f"prompts[{i}]", problems) for i, prompt in enumerate(request.prompts)]
        problems.raise_if_any()
        tokens = await self._front.tokenize(request.model, prompts)
        return pb.TokenizeResponse(tokens=map(tokens_to_proto, tokens))

    def _status(self, model: str) -> ModelStatus:
        for status in self._front.models():
            if status.name == model:
                return status
        raise ModelNotFound(f"model {model!r} is being taken away", model=model)
