import os
import subprocess
import sys
import time

import psutil
import pytest

from interpd.worker.reaper import processes_of, reap

HOLD_S = 20
HOLD = f"import sys, time; f = open(sys.argv[1], 'w'); print('open', flush=True); time.sleep({HOLD_S})"


def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    return process


@pytest.mark.slow
def test_processes_with_files_open_below_the_folder_are_ended_and_the_folder_goes(tmp_path):
    inside, outside = tmp_path / "mine", tmp_path / "other"
    inside.mkdir()
    outside.mkdir()
    with holder(inside / "log") as left_behind, holder(outside / "log") as stranger:
        started = time.monotonic()
        reap(inside)
        left_behind.wait()
        took_s = time.monotonic() - started
        was_spared = stranger.poll() is None
        stranger.kill()
    assert was_spared
    assert took_s < HOLD_S
    assert not inside.exists()
    assert outside.exists()


def test_the_daemon_itself_is_spared(tmp_path):
    with (tmp_path / "log").open("w"):
        assert os.getpid() not in [process.pid for process in processes_of(tmp_path)]
    with holder(tmp_path / "log") as process:
        assert [p.pid for p in processes_of(tmp_path)] == [process.pid]
        assert processes_of(tmp_path, but=process.pid) == []
        process.kill()


@pytest.mark.slow
def test_it_waits_for_the_end_of_its_input(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    command = [sys.executable, "-m", "interpd.worker.reaper", str(folder), str(os.getpid())]
    with holder(folder / "log") as left_behind, subprocess.Popen(command, stdin=subprocess.PIPE) as reaper:
        time.sleep(0.5)
        assert psutil.pid_exists(left_behind.pid)
        reaper.stdin.close()
        assert reaper.wait(20) == 0
        assert left_behind.wait(10) == -9
    assert not folder.exists()
