"""A driver that kills itself: python -m tests.study.run.killed STUDY MESSAGE.

It resumes a study with fabricated trials, and dies by SIGKILL as soon as it says the message.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

from darts_ray.study import resume_study
from tests.study.run.conftest import stand_in
from tests.study.run.test_invalidation import judge

if __name__ == "__main__":
    folder, last = sys.argv[1:]

    def die(message: str) -> None:
        if message == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        judge(stand_in(patch), patch)
        resume_study(folder, on_message=die)
