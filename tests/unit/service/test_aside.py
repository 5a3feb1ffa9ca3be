import asyncio
import threading

import pytest

from interpd.errors import Overloaded
from interpd.service.aside import Aside


async def test_work_is_done_on_another_thread():
    assert await Aside(1).run(threading.get_ident) != threading.get_ident()


async def test_what_the_work_raises_comes_out():
    with pytest.raises(ZeroDivisionError):
        await Aside(1).run(divmod, 1, 0)


async def test_the_line_is_bounded():
    aside, gate = Aside(longest_line=1), threading.Event()
    waiting = [asyncio.ensure_future(aside.run(gate.wait, 5.0)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 large requests are being looked at"):
        await aside.run(gate.wait)
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await aside.run(int) == 0


async def test_who_goes_away_while_waiting_leaves_the_line():
    aside, gate = Aside(longest_line=1), threading.Event()
    first = asyncio.ensure_future(aside.run(gate.wait, 5.0))
    second = asyncio.ensure_future(aside.run(gate.wait, 5.0))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait((second,))
    gate.set()
    assert await first
    assert await aside.run(int) == 0
