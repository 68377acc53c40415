import os
import signal
import subprocess
import sys
import time

import pytest

from sourcematters.errors import StudyError
from sourcematters.processes import apart, cores, over_processes


def square(x):
    return x * x


def die(how):
    if how > 0:
        os._exit(how)
    os.kill(os.getpid(), -how)
    time.sleep(60)


def die_or_work(how):
    return die(how) if how else time.sleep(60)


def crash(x):
    os.abort() if x else time.sleep(60)


def slow(x):
    time.sleep(0 if x == 0 else 60)
    return os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_task_is_done_once_for_any_number_of_workers(workers):
    assert sorted(over_processes(square, [3, 1, 2], workers)) == [(1, 1), (2, 4), (3, 9)]


def test_one_worker_keeps_the_order_and_the_process():
    assert [r for _, r in over_processes(lambda x: (x, os.getpid()), [3, 1], 1)] == [(3, os.getpid()), (1, os.getpid())]


def test_short_work_is_not_worth_other_processes():
    assert [pid for _, pid in over_processes(lambda x: os.getpid(), [3, 1, 2], 2, alone=60)] == [os.getpid()] * 3


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, r"was killed \(SIGKILL\), usually for want of memory \(workers=2\).* fewer workers"),
        (-signal.SIGSEGV, r"crashed \(SIGSEGV\): .*choose another backbone, device or precision"),
        (-signal.SIGILL, r"crashed \(SIGILL\)"),
        (-signal.SIGBUS, r"crashed \(SIGBUS\)"),
        (-signal.SIGTERM, r"was ended by SIGTERM"),
        (3, r"ended by itself, with exit code 3"),
    ],
)
def test_a_worker_that_dies_is_explained_by_what_ended_it(code, words):
    with pytest.raises(StudyError, match=words) as caught:
        list(over_processes(die, [code, code], 2))
    assert ("memory" in str(caught.value)) == (code == -signal.SIGKILL)


def test_a_worker_that_dies_beside_one_that_works_is_the_one_that_is_told_of():
    with pytest.raises(StudyError, match="SIGSEGV"):
        list(over_processes(die_or_work, [-signal.SIGSEGV, 0], 2))


@pytest.mark.parametrize("late", [0, 0.3])
def test_workers_do_not_hear_the_interrupt_that_their_parent_hears(tmp_path, late):
    """However late the pool's thread is woken: a pool that closes its pipe meanwhile fails as Python exits."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\n"
        "import test_processes as t\n"
        "from multiprocessing.connection import Connection\n"
        "if __name__ == '__main__':\n"
        "    send = Connection._send_bytes\n"
        "    def send_late(self, buf):\n"
        f"        t.time.sleep({late} if not len(buf) else 0)\n"
        "        send(self, buf)\n"
        "    Connection._send_bytes = send_late\n"
        "    for task, pid in t.over_processes(t.slow, [0, 1, 2], 2):\n"
        "        print('ready', flush=True)\n"
    )
    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, script, here],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(here)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in the background
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt"), err


def test_a_worker_that_crashes_is_not_said_to_want_memory():
    for work in (lambda: list(over_processes(crash, [1, 0], 2)), lambda: apart(crash, 1)):
        with pytest.raises(StudyError, match=r"crashed \(SIGABRT\): compiled code failed") as raised:
            work()
        assert "fewer workers" not in str(raised.value)


def test_work_apart_is_done_in_another_process():
    assert apart(slow, 0) != os.getpid()
    with pytest.raises(TypeError):
        apart(square, "a")


def slow_if_it_is_given_much(task):
    return slow(len(task))


@pytest.mark.parametrize("size", [1, 1_000_000], ids=["little", "more than a pipe holds"])
def test_workers_end_with_the_loop(size):
    start = time.time()
    results = over_processes(slow_if_it_is_given_much, [b"", *[b"x" * size] * 4], 2)
    _, pid = next(results)
    results.close()
    assert time.time() - start < 30
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.05)
    pytest.fail("a worker is still alive")


def test_cores_is_what_this_process_may_use():
    assert 1 <= cores() <= os.cpu_count()
