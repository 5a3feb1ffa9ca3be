"""The two files of a PEFT adapter: found, judged, and copied to where nobody changes them any more.

Workers that start later, or again, load the copy: what a name stands for does not depend on when they started.
"""

import hashlib
import shutil
from pathlib import Path

from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.specs import AdapterSpec

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MOST_BYTES = 16 << 30
"""The largest adapter."""

_PICKLES = ("adapter_model.bin", "adapter_model.pt")


def kept_adapter(spec: AdapterSpec, into: Path) -> tuple[Path, str]:
    """(folder, digest) of a copy of the adapter below ``into``; equal adapters are one folder.

    Raises:
        ModelNotFound: No such folder or hub id, or a file is missing.
        FeatureUnsupported: Pickled weights.
        InvalidRequest: A file that cannot be read; a revision that a folder cannot have.
    """
    source = _folder(spec)
    paths = [source / name for name in (CONFIG_FILE, WEIGHTS_FILE)]
    _check(spec, source)
    try:
        digest = _digest(paths)
        folder = into / digest.removeprefix("sha256:")
        if not folder.is_dir() or _digest([folder / path.name for path in paths]) != digest:
            shutil.rmtree(folder, ignore_errors=True)
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, part / path.name)
            if _digest([part / path.name for path in paths]) != digest:
                raise InvalidRequest(f"adapter {spec.name!r}: its files changed while they were read: load it again")
            part.rename(folder)
    except OSError as error:
        raise InvalidRequest(f"adapter {spec.name!r}: its files cannot be copied: {error}") from error
    return folder, digest


def _folder(spec: AdapterSpec) -> Path:
    folder = Path(spec.source).expanduser()
    if folder.is_dir():
        if spec.revision is not None:
            raise InvalidRequest(f"adapter {spec.name!r}: a local folder has no revision {spec.revision!r}")
        return folder
    if folder.exists():
        raise InvalidRequest(f"adapter {spec.name!r}: {spec.source!r} is a file, expected the folder that holds it")
    # the hub's library takes a third of a second to import, and most adapters are folders
    from interpd.worker.hub import fetch, is_hub_id

    if not is_hub_id(spec.source):
        raise ModelNotFound(
            f"adapter {spec.name!r}: {spec.source!r} is neither a folder of the daemon's machine nor an id of the hub"
        )
    names = (CONFIG_FILE, WEIGHTS_FILE)
    return fetch(spec.source, spec.revision, names, lambda found: all((found / name).is_file() for name in names))[0]


def _check(spec: AdapterSpec, folder: Path) -> None:
    if not (folder / CONFIG_FILE).is_file():
        raise ModelNotFound(f"adapter {spec.name!r}: {spec.source!r} holds no adapter: it has no {CONFIG_FILE}")
    if not (folder / WEIGHTS_FILE).is_file():
        if pickle := next((name for name in _PICKLES if (folder / name).is_file()), ""):
            raise FeatureUnsupported(
                f"adapter {spec.name!r}: {spec.source!r} holds only {pickle!r}, which can run code when it is read; "
                "save it once more with save_pretrained(FOLDER), where you trust the file"
            )
        raise ModelNotFound(f"adapter {spec.name!r}: {spec.source!r} has no {WEIGHTS_FILE}")
    n_bytes = sum((folder / name).stat().st_size for name in (CONFIG_FILE, WEIGHTS_FILE))
    if n_bytes > MOST_BYTES:
        raise InvalidRequest(f"adapter {spec.name!r} has {n_bytes} bytes, at most {MOST_BYTES} are loaded")


def _digest(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{whole.hexdigest()}"
