"""A signal to the whole job reaches the trainer, and not the processes that compile kernels for it."""

import os
import subprocess
import sys

SCRIPT = """
import os, signal, time
from randscene.train.compile_workers import start_compile_workers

noted = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: noted.append(number))
start_compile_workers()

from torch._inductor.async_compile import AsyncCompile

pool = AsyncCompile.process_pool()
assert pool.submit(os.getpid).result(60) != os.getpid()
job = pool.submit(time.sleep, 2)
time.sleep(0.5)
assert not job.done()
for number in (signal.SIGINT, signal.SIGTERM):
    os.killpg(0, number)
job.result(30)
assert noted == [signal.SIGINT, signal.SIGTERM]
"""


def test_kernels_are_compiled_to_the_end_when_the_whole_job_is_signalled():
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, start_new_session=True, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
