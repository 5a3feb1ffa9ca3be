"""Checkpoints from the Hugging Face hub, always at one commit."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from interpd import zoo
from interpd.errors import CallerError, InvalidRequest, ModelNotFound

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_TIMEOUT_S = 30.0


def is_hub_id(source: str) -> bool:
    """Whether ``source`` could be the id of a model on the hub: ``name`` or ``owner/name``."""
    return _HUB_ID.fullmatch(source) is not None


def fetch(
    source: str, revision: str | None, files: Sequence[str], is_complete: Callable[[Path], bool]
) -> tuple[Path, str]:
    """(local folder, commit) of a repository of the hub.

    Args:
        source: Its id.
        revision: Commit, tag or branch.
        files: Patterns of what is fetched, and nothing else.
        is_complete: Whether a folder of the local cache has all that is needed: a download may have been cut.

    Raises:
        InvalidRequest: No revision was given.
        ModelNotFound: No such model or revision, no right to it, or the hub cannot be reached and the commit is not
            in the local cache.
    """
    if not revision:
        raise InvalidRequest(
            f"{source!r} is no folder and no bundled name here ({', '.join(zoo.names())}), and from the hub it needs a "
            "pinned revision: "
            f"write {source}@COMMIT (the 40 hex digits under 'Files and versions'; a tag or branch is resolved to its "
            "commit)"
        )
    commit = revision if _COMMIT.fullmatch(revision) else _resolve(source, revision)
    patterns = list(files)
    try:
        here = Path(snapshot_download(source, revision=commit, allow_patterns=patterns, local_files_only=True))
        if is_complete(here):
            return here, commit
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(source, revision=commit, allow_patterns=patterns)), commit
    except (HTTPError, HFValidationError, OSError) as error:
        raise _explain(source, commit, error) from error


def _resolve(source: str, revision: str) -> str:
    try:
        commit = HfApi().model_info(source, revision=revision, timeout=_TIMEOUT_S).sha
    except (HTTPError, HFValidationError, OSError) as error:
        raise _explain(source, revision, error) from error
    if commit is None:
        raise ModelNotFound(f"the hub names no commit for model {source!r} at revision {revision!r}")
    return commit


def _explain(source: str, revision: str, error: Exception) -> CallerError:
    what = f"model {source!r} at revision {revision!r}"
    # a gated repository is a kind of missing one to the hub's library: the order matters
    reasons = (
        (GatedRepoError, "is gated: accept its terms on the hub and set HF_TOKEN for the daemon"),
        (RevisionNotFoundError, "does not exist: the hub has the model, not the revision"),
        (RepositoryNotFoundError, "does not exist on the hub, or is private and needs HF_TOKEN"),
        (HFValidationError, "is no valid id of the hub"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return ModelNotFound(f"{what} {reason}")
    return ModelNotFound(
        f"{what} is not in the local cache and the hub cannot be reached: {error}; "
        "give a 40-digit commit that is cached, or the path of a local folder"
    )
