"""Whether the process that holds a study still lives."""

from __future__ import annotations

import socket
import subprocess
import sys

import psutil

from darts_ray.study.files.holder import Holder


def test_a_killed_process_has_died_before_its_parent_asks_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(process.pid).create_time()
    holder = Holder("token", socket.gethostname(), process.pid, started)
    assert not holder.has_died_here()
    process.kill()
    # nobody has waited for it, so it is still listed
    while psutil.pid_exists(process.pid) and not holder.has_died_here():
        pass
    assert psutil.pid_exists(process.pid)
    assert holder.has_died_here()
    process.wait()
    assert holder.has_died_here()
