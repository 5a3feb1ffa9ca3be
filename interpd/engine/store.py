"""What was uploaded: constants by digest, artifacts by name."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from os.path import getsize
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from interpd.engine.tensors import from_data
from interpd.errors import ArtifactNotFound, BlobNotFound, CallerError, DataLoss, InvalidRequest
from interpd.graph.digest import blob_digest
from interpd.graph.names import artifact_name_problem
from interpd.graph.schema import ArtifactInfo
from interpd.graph.types import TensorData
from interpd.plugin.artifact import RegisteredArtifact

BLOB_BYTES = 4 << 30
NO_SIZES: Mapping[str, int] = MappingProxyType({})


class Store:
    """Constants and artifacts of one engine.

    Args:
        kinds: The artifact kinds that the plugins declare.
        device: Where tensors are used.
        dtype: What the floating tensors of artifacts are cast to.
        sizes: Of the model, by axis word: an artifact must agree with those of widths (``d_model``).
        blob_bytes: Bound on all constants together; the ones not used for longest go first.
    """

    def __init__(
        self,
        kinds: Mapping[str, RegisteredArtifact],
        device: torch.device,
        dtype: torch.dtype,
        *,
        sizes: Mapping[str, int] = NO_SIZES,
        blob_bytes: int = BLOB_BYTES,
    ) -> None:
        self._sizes = sizes
        self._kinds, self._device, self._dtype = kinds, device, dtype
        self._blob_bytes = blob_bytes
        self._blobs: OrderedDict[str, Tensor] = OrderedDict()
        self._paths: dict[str, Path] = {}
        self._loaded: dict[str, Any] = {}
        self._own_files: TemporaryDirectory[str] | None = None
        self.artifacts: dict[str, ArtifactInfo] = {}
        """What is known, by name."""

    def put_blob(self, digest: str, data: TensorData) -> None:
        """Keeps an uploaded constant. Raises ``DataLoss`` when content and digest disagree."""
        if (found := blob_digest(data)) != digest:
            raise DataLoss(f"blob {digest!r} has content of digest {found!r}: upload it again", digest=digest)
        self._blobs[digest] = from_data(data, self._device)
        self._blobs.move_to_end(digest)
        while len(self._blobs) > 1 and sum(blob.nbytes for blob in self._blobs.values()) > self._blob_bytes:
            self._blobs.popitem(last=False)

    def blob(self, digest: str) -> Tensor:
        """An uploaded constant. Raises ``BlobNotFound``."""
        if digest not in self._blobs:
            raise BlobNotFound(f"no constant of digest {digest!r} is here: upload it and send the request again")
        self._blobs.move_to_end(digest)
        return self._blobs[digest]

    def constant(self, data: TensorData) -> Tensor:
        """A constant of a graph."""
        return from_data(data, self._device)

    def put_artifact(self, name: str, kind: str, path: str | Path) -> ArtifactInfo:
        """Makes a file known under ``name``. Raises ``CallerError``, also for one that does not fit the model."""
        _check_name(name)
        if kind not in self._kinds:
            raise CallerError(
                f"no artifact kind {kind!r}; this worker knows {', '.join(sorted(self._kinds)) or 'none'}"
            )
        path = Path(path)
        try:
            info = ArtifactInfo(name, kind, f"sha256:{_file_digest(path)}", getsize(path))
        except OSError as error:
            raise CallerError(f"artifact {name!r}: cannot read {path.name!r}: {error}") from error
        dims = self._kinds[kind].dims(path, where=f"artifact {name!r}")
        self._check_widths(name, dims)
        info = replace(info, dims=tuple(dims.items()))
        self._paths[name] = path
        self._loaded.pop(name, None)
        self.artifacts[name] = info
        return info

    def _check_widths(self, name: str, dims: Mapping[str, int]) -> None:
        wrong = [
            f"{axis} is {size}, the model's is {self._sizes[axis]}"
            for axis, size in dims.items()
            if axis.startswith("d_") and self._sizes.get(axis, size) != size
        ]
        if wrong:
            raise InvalidRequest(f"artifact {name!r} is of another model: {'; '.join(wrong)}")

    def save_artifact(self, name: str, instance: object) -> tuple[ArtifactInfo, Path]:
        """Keeps what a method made: (what it is, its file).

        Raises ``CallerError`` when its class is no artifact of a loaded plugin, or the name cannot be one.
        """
        _check_name(name)
        kind = next((kind for kind, known in self._kinds.items() if isinstance(instance, known.cls)), None)
        if kind is None:
            raise CallerError(f"artifact {name!r}: {type(instance).__name__} is no artifact class of a loaded plugin")
        if self._own_files is None:
            self._own_files = TemporaryDirectory(prefix="interpd-artifacts-")
        path = Path(self._own_files.name) / f"{sha256(name.encode()).hexdigest()}.safetensors"
        self._kinds[kind].save(instance, path)
        return self.put_artifact(name, kind, path), path

    def drop_artifact(self, name: str) -> None:
        """Forgets an artifact; unknown names are ignored. Files that were uploaded belong to who wrote them."""
        self.artifacts.pop(name, None)
        self._loaded.pop(name, None)
        path = self._paths.pop(name, None)
        if path is not None and self._own_files is not None and path.parent == Path(self._own_files.name):
            path.unlink(missing_ok=True)

    def artifact(self, name: str) -> Any:
        """The object called ``name``, loaded at its first use. Raises ``ArtifactNotFound``."""
        if name not in self.artifacts:
            raise ArtifactNotFound(f"no artifact {name!r} is here", artifact=name)
        if name not in self._loaded:
            kind = self._kinds[self.artifacts[name].kind]
            self._loaded[name] = kind.load(self._paths[name], device=self._device, dtype=self._dtype)
        return self._loaded[name]

    def forget_loaded(self, name: str) -> None:
        """Loads the artifact again at its next use: somebody wrote into its tensors."""
        self._loaded.pop(name, None)

    def close(self) -> None:
        """Drops everything."""
        self._blobs.clear()
        self._loaded.clear()
        if self._own_files is not None:
            self._own_files.cleanup()


def _check_name(name: str) -> None:
    if problem := artifact_name_problem(name):
        raise InvalidRequest(problem)


def _file_digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
