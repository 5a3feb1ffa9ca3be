"""Results as files: ours, and those of Inseq. Nothing that a file says is ever imported or run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution
from interpd_attribution.files import inseq_json, own
from interpd_attribution.files.precision import Precision, check_precision
from interpd_attribution.files.text import is_compressed, paths_for, read_json, refuse_existing, write_json

__all__ = ["read", "write", "write_inseq"]

PER_SEQUENCE = ("input_texts", "generated_texts")
"""Lists in ``info`` with one entry for each sequence."""

Info = Mapping[str, object]


def read(path: str | Path) -> tuple[tuple[Attribution, ...], dict[str, object]]:
    """The results in a file, ours or Inseq's, compressed or not, and their ``info``."""
    content, where = read_json(Path(path)), str(path)
    if inseq_json.is_inseq(content):
        return inseq_json.from_json(content, where)
    if isinstance(content, Mapping) and content.get("format") == own.FORMAT:
        return own.from_json(content, where)
    if isinstance(content, Mapping) and "sequence_attributions" in content:
        raise CallerError(f"{where} was saved by Inseq with use_primitives=True, which leaves out what is what")
    raise CallerError(f"{where} holds no attributions: it is neither {own.FORMAT} nor a file that Inseq saved")


def write(
    path: str | Path,
    sequences: Sequence[Attribution],
    info: Info,
    *,
    overwrite: bool = False,
    compress: bool | None = None,
    ndarray_compact: bool = True,
    split_sequences: bool = False,
    scores_precision: Precision = "float32",
) -> tuple[Path, ...]:
    """The paths of our files; ``Attributions.save`` says what the arguments mean."""
    check_precision(scores_precision)
    if not ndarray_compact and scores_precision != "float32":
        raise CallerError("numbers as text are float32; ndarray_compact=True writes them with fewer bits")
    packed = is_compressed(Path(path), compress)
    groups = _groups(sequences, info, split=split_sequences)
    paths = paths_for(Path(path), len(groups), split=split_sequences, compress=packed)
    refuse_existing(paths, overwrite)
    for one, (group, its_info) in zip(paths, groups, strict=True):
        content = own.to_json(group, its_info, scores_precision, is_compact=ndarray_compact)
        write_json(one, content, compress=packed, overwrite=overwrite)
    return tuple(paths)


def write_inseq(
    path: str | Path,
    sequences: Sequence[Attribution],
    info: Info,
    *,
    overwrite: bool = False,
    compress: bool = False,
    split_sequences: bool = False,
    scores_precision: Precision = "float32",
    without_steps: bool = False,
) -> tuple[Path, ...]:
    """The paths of files that Inseq 0.7.1 loads; ``Attributions.save_inseq`` says what the arguments mean."""
    check_precision(scores_precision)
    kept = [replace(item, step_attributions=None) for item in sequences] if without_steps else sequences
    groups = _groups(kept, info, split=split_sequences)
    paths = paths_for(Path(path), len(groups), split=split_sequences, compress=compress)
    refuse_existing(paths, overwrite)
    for one, (group, its_info) in zip(paths, groups, strict=True):
        content = inseq_json.to_json(group, its_info, scores_precision)
        write_json(one, content, compress=compress, overwrite=overwrite, for_inseq=True)
    return tuple(paths)


def _groups(sequences: Sequence[Attribution], info: Info, *, split: bool) -> list[tuple[Sequence[Attribution], Info]]:
    if not split:
        return [(sequences, info)]
    return [((item,), its_own) for item, its_own in zip(sequences, info_of_each(info, len(sequences)), strict=True)]


def texts_of_each(info: Info, n_sequences: int) -> dict[str, Sequence[str]]:
    """The lists in ``info`` that have an entry for each sequence."""
    listed = {key: info[key] for key in PER_SEQUENCE if isinstance(info.get(key), (list, tuple))}
    return {key: texts for key, texts in listed.items() if len(texts) == n_sequences}


def info_of_each(info: Info, n_sequences: int) -> list[dict[str, object]]:
    """``info`` for each sequence by itself."""
    listed = texts_of_each(info, n_sequences)
    return [{**info, **{key: [texts[number]] for key, texts in listed.items()}} for number in range(n_sequences)]
