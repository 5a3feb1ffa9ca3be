"""Options that the commands of attribution share, under the names that Inseq's users know."""

import argparse

from interpd.cli import at_least
from interpd_attribution.commands.values import Group, flag, json_object, method_options, option
from interpd_attribution.dataset.running import IN_FLIGHT


def add_model(parser: argparse.ArgumentParser) -> Group:
    """Adds which model, and where it is; gives the group."""
    group = parser.add_argument_group(
        "model", "One that the daemon has loaded (--address), or one that this process loads (--in-process)."
    )
    option(
        group,
        *("-m", "--model", "--model-name-or-path"),
        dest="model",
        metavar="MODEL",
        help="its name (default: the only one); with --in-process a folder, OWNER/NAME@COMMIT of the hub or a bundled "
        "name",
    )
    option(group, "--in-process", action="store_true", help="without a daemon; needs pip install 'interpd[daemon]'")
    option(group, "--device", "--dev", metavar="DEVICE", help="with --in-process: cpu, cuda, cuda:N (default: auto)")
    option(
        group,
        "--model-kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="with --in-process: arguments of the model's from_pretrained",
    )
    option(
        group,
        "--tokenizer-kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="with --in-process: arguments of the tokenizer's from_pretrained",
    )
    return group


def add_method(parser: argparse.ArgumentParser) -> Group:
    """Adds what is computed; gives the group."""
    group = parser.add_argument_group("attribution")
    option(
        group,
        *("-a", "--attribution-method", "--method"),
        dest="method",
        default="saliency",
        metavar="METHOD",
        help="how importance is measured (default: saliency); see interpd attribute --list-methods",
    )
    option(
        group,
        *("-fn", "--attributed-fn", "--target"),
        dest="target",
        metavar="FUNCTION",
        help="what is attributed: a step function, with its options in parentheses, 'kl_divergence(top_k=10)' "
        "(default: probability)",
    )
    option(
        group,
        "--attribution-kwargs",
        type=method_options,
        default={},
        metavar="JSON",
        help="""options of the method, '{"n_steps": 20}', under Inseq's names, too""",
    )
    option(
        group,
        "--generation-kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="options of the generation, where nothing is given to attribute",
    )
    return group


def add_aggregation(parser: argparse.ArgumentParser) -> None:
    """Adds how scores are reduced."""
    group = parser.add_argument_group(
        "aggregation",
        "Of what is shown, drawn, printed and written.\nDefault: shown and drawn with one number for each pair of "
        "tokens, written as the method gave it.",
    )
    add_reduction(
        group,
        aggregators="aggregators or aggregation functions, one after the other: subwords, mean, ...",
        normalize="the magnitudes of each column sum to 1",
        rescale="instead: scores are divided by the largest magnitude of their sequence",
    )
    flag(group, "--aggregate-output", help="results are written with one number for each pair of tokens, too")


def add_reduction(group: Group, *, aggregators: str, normalize: str, rescale: str) -> None:
    """Adds aggregators and scales, each with what it means for the command."""
    option(group, "--attribution-aggregators", dest="aggregators", nargs="+", metavar="NAME", help=aggregators)
    option(
        group,
        "--attribution-selectors",
        dest="selectors",
        nargs="+",
        type=int,
        metavar="N",
        help="for each aggregator the entry of its axis (layer, head) that is picked",
    )
    flag(group, "--normalize-attributions", dest="normalize", help=normalize)
    flag(group, "--rescale-attributions", dest="rescale", help=rescale)


def add_request(parser: argparse.ArgumentParser) -> None:
    """Adds what ``attribute`` and ``attribute-dataset`` take of the method beside ``add_method``."""
    group = add_method(parser)
    option(
        group,
        "--step-scores",
        nargs="+",
        default=[],
        metavar="FUNCTION",
        help="step functions to report for each attributed token, written as for --target",
    )
    option(group, "--baseline", metavar="NAME", help="inputs that say nothing: unk, pad, mask, mean, zeros, noise")
    flag(group, *("--include-eos-baseline", "--eos"), help="baselines replace end tokens, too")
    option(group, "--features", metavar="KIND", help="what is one input: token (default), word, sentence, ...")
    flag(group, "--attribute-target", help="encoder-decoder models: the target's prefix, too")
    option(group, "-s", "--start-pos", type=int, metavar="N", help="first attributed position of the target")
    option(group, "-e", "--end-pos", type=int, metavar="N", help="position behind the last attributed one")
    option(group, "--span", action="store_true", help="one column for all attributed tokens, the sum of their targets")
    option(group, "--reduce", metavar="NAME", help="how the model's machine makes vectors numbers: vnorm, sum, ...")
    option(group, "--granular", action="store_true", help="vectors come back whole, a number for each dimension")
    flag(
        group,
        "--output-step-attributions",
        dest="keep_steps",
        help="results hold the scores of each step, too",
    )
    flag(
        group,
        *("--generate-from-target-prefix",),
        dest="is_prefix",
        help="what is given to attribute is continued by the model first, and attributed with what it adds",
    )
    option(group, "--max-new-tokens", type=at_least(1), metavar="N", help="bound of the generation")
    option(
        group,
        "-bs",
        "--batch-size",
        type=at_least(1),
        default=IN_FLIGHT,
        metavar="N",
        help="texts under way at once (4)",
    )


def add_output(parser: argparse.ArgumentParser) -> Group:
    """Adds where results go; gives the group."""
    group = parser.add_argument_group("output")
    option(group, "-o", "--save-path", metavar="FILE", help="write the results here, as JSON; compressed: .json.gz")
    option(group, "--viz-path", metavar="FILE", help="write a page of tables here, as HTML")
    option(group, "--overwrite", action="store_true", help="replace files that are there")
    flag(group, "--hide", "--hide-attributions", dest="hide", help="show no tables")
    flag(group, "-v", "--verbose", help="say on standard error what is asked, and how long it took")
    flag(group, "-vv", "--very-verbose", help="everything that the packages log, too")
    return group
