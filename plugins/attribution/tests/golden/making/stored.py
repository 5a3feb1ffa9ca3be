"""Files as Inseq saves them, for importers, and what Inseq reads back from them."""

import contextlib
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import inseq
import tiny
from inseq.commands.attribute.attribute import attribute as attribute_command
from inseq.commands.attribute.attribute_args import AttributeWithInputsArgs
from inseq.data import FeatureAttributionOutput

from making import inputs, oracle
from making.inputs import GPT2, LETTERS, PLANS
from making.matrix import arrays
from making.oracle import Method, Target
from making.records import DATA, Document, Records, close

FOLDER = DATA / "saved"


@dataclass
class Files:
    """Files to write beside the records, by name; compared by what they hold."""

    name: str = "saved"
    texts: dict[str, bytes] = field(default_factory=dict)

    def write(self) -> None:
        """Writes them."""
        FOLDER.mkdir(exist_ok=True, parents=True)
        for name, text in self.texts.items():
            (FOLDER / name).write_bytes(text)

    def differences(self) -> list[str]:
        """The names of those that hold something else than what is committed."""
        return [name for name, text in self.texts.items() if not self._same(FOLDER / name, text)]

    @staticmethod
    def _same(committed: Path, text: bytes) -> bool:
        plain = gzip.decompress if committed.suffix == ".gz" else bytes
        return committed.exists() and close(json.loads(plain(committed.read_bytes())), json.loads(plain(text)))


def make() -> Iterator[Files | Records | Document]:
    """The files, what they are read back as, and the dictionaries of scores."""
    made = Files()
    read_back = Records("saved")
    dictionaries = Document("dictionaries")
    for label, found, options in _outputs():
        for name, text in _saved(label, found, **options):
            made.texts[name] = text
            _read_back(read_back, name, text)
        if not options:
            # aggregated once is enough: a second time would take the norm of numbers
            is_raw = label not in ("aggregated", "contrastive")
            told = found.get_scores_dicts(do_aggregation=is_raw)
            dictionaries.cases.append({"id": label, "output": [_pairs(scores) for scores in told]})
    for name, text in _commanded():
        made.texts[name] = text
        _read_back(read_back, name, text)
    yield made
    yield read_back
    yield dictionaries


def _pairs(scores: object) -> object:
    """A dictionary as a list of pairs, because its keys are (position, token)."""
    if not isinstance(scores, dict):
        return scores
    return [[list(key) if isinstance(key, tuple) else key, _pairs(value)] for key, value in scores.items()]


def _outputs() -> Iterator[tuple[str, FeatureAttributionOutput, dict[str, object]]]:
    granular = _found(
        LETTERS, Method("saliency", call={"abs": False}, attribute_target=True), ["probability", "entropy"]
    )
    yield "granular", granular, {}
    yield "granular-float16", granular, {"scores_precision": "float16"}
    yield "granular-float8", granular, {"scores_precision": "float8"}
    yield "granular-compressed", granular, {"compress": True}
    yield "granular-primitives", granular, {"use_primitives": True}
    yield "coarse", _found(PLANS, Method("occlusion"), ["probability"]), {}
    yield "heads", _found(LETTERS, Method("attention", attribute_target=True)), {}
    yield "heads-decoder-only", _found(GPT2, Method("attention")), {}
    yield "aggregated", granular.aggregate(), {}
    yield "contrastive", _contrastive(), {}
    two = inseq.merge_attributions([_found(PLANS, Method("occlusion"), ["probability"])] * 2)
    yield "two", two, {"split_sequences": True}
    yield "with-steps", _found(PLANS, Method("occlusion"), steps=True), {}


def _found(
    name: str, method: Method, step_scores: list[str] | None = None, *, steps: bool = False
) -> FeatureAttributionOutput:
    options = {"step_scores": step_scores} if step_scores else {}
    found = oracle.attribute(oracle.load(name, method), name, method, output_step_attributions=steps, **options)
    return _timeless(found)


def _contrastive() -> FeatureAttributionOutput:
    method, target = Method("input_x_gradient"), Target("contrast_prob_diff", contrast="foil")
    return _timeless(oracle.attribute(oracle.load(PLANS, method), PLANS, method, target).aggregate("sum"))


def _timeless(found: FeatureAttributionOutput) -> FeatureAttributionOutput:
    found.info["exec_time"] = 0.0
    return found


def _saved(label: str, found: FeatureAttributionOutput, **options: object) -> Iterator[tuple[str, bytes]]:
    name = f"{label}.json" + ".gz" * bool(options.get("compress"))
    with TemporaryDirectory() as folder:
        found.save(Path(folder) / name, **options)
        for path in sorted(Path(folder).iterdir()):
            text = path.read_bytes()
            # a compressed file has the time in it
            yield path.name, gzip.compress(gzip.decompress(text), mtime=0) if path.suffix == ".gz" else text


def _read_back(made: Records, name: str, text: bytes) -> None:
    told = {"id": name}
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text)
        try:
            found = FeatureAttributionOutput.load(path, decompress=name.endswith(".gz"))
        # json-tricks lets any error through that a constructor of a class named in the file may raise
        except Exception as error:
            made.add_refusal(told, error)
            return
    sequence = found.sequence_attributions[0]
    told |= {
        "class": type(sequence).__name__,
        "source_tokens": [[token.token, token.id] for token in sequence.source],
        "target_tokens": [[token.token, token.id] for token in sequence.target],
        "attr_pos": [sequence.attr_pos_start, sequence.attr_pos_end],
        "info_keys": sorted(found.info),
    }
    made.add(told, arrays(sequence))


def _commanded() -> Iterator[tuple[str, bytes]]:
    """What ``inseq attribute`` writes, called without its command line."""
    texts = inputs.TEXTS[GPT2]
    asked: dict[str, dict[str, object]] = {
        "command": {"attribution_method": "input_x_gradient", "step_scores": ["probability"]},
        "command-aggregated": {"attribution_method": "saliency", "attribution_aggregators": ["scores", "subwords"]},
    }
    with TemporaryDirectory() as folder:
        model = Path(folder) / GPT2
        tiny.save(GPT2, model)
        for label, options in asked.items():
            path = Path(folder) / f"{label}.json"
            arguments = AttributeWithInputsArgs(
                model_name_or_path=str(model),
                input_texts=[texts.source],
                generated_texts=[texts.target],
                hide_attributions=True,
                save_path=str(path),
                **options,
            )
            _silently(lambda arguments=arguments: attribute_command([texts.source], [texts.target], arguments))
            told = json.loads(path.read_text(encoding="utf-8"))
            told["attributes"]["info"] |= {"exec_time": 0.0, "model_name": GPT2, "tokenizer_name": None}
            yield path.name, json.dumps(told, indent=1, allow_nan=True).encode()


def _silently(call: Callable[[], None]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        call()
