"""A Backpack of a folder, served; two clients write with edits of their own at the same time."""

from contextlib import ExitStack
from threading import Barrier, Thread

import numpy as np
import pytest
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd.testing.daemon_process import DaemonProcess

pytestmark = pytest.mark.ray

PROMPT = "The nurse said that she"
EDITS = (("senses", 3.0), ("sense_weights", 0.0))


def written(model, site, factor):
    """(text, logits of each step) with one sense scaled."""
    with model.generate(PROMPT, max_new_tokens=6, ignore_eos=True) as g:
        value = g.senses if site == "senses" else g.sense_weights
        value[:, 1] *= factor
        g.save(last=g.logits[:, -1])
    return g.result.token_ids, g.result["last"]


def test_two_clients_write_with_edits_of_their_own(tmp_path):
    folder = str(tmp_path / "tiny")
    model, tokenizer = tiny_backpack()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    found, together = {}, Barrier(len(EDITS))

    def ask(number, far):
        together.wait(timeout=60)
        found[number] = [written(far, *EDITS[number]) for _ in range(3)]

    arguments = ("interpd", "serve", "--port", "0", "--model", folder, "--plugin", "backpack")
    with ExitStack() as stack:
        here = stack.enter_context(
            interpd_client.local((model, tokenizer), plugins={"backpack": interpd_backpack.worker})
        ).model("backpack")
        alone = [written(here, *edit) for edit in EDITS]
        daemon = stack.enter_context(DaemonProcess(*arguments))
        clients = [stack.enter_context(interpd_client.connect(daemon.address)) for _ in EDITS]
        threads = [Thread(target=ask, args=(at, one.model("tiny"))) for at, one in enumerate(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, (ids, logits) in enumerate(alone):
        for other_ids, other_logits in found[number]:
            assert other_ids == ids
            assert np.abs(other_logits - logits).max() <= 1e-4 * np.abs(logits).max()
