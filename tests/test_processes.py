import os
import time

import pytest

from sourcematters.errors import StudyError
from sourcematters.processes import apart, cores, over_processes


def square(x):
    return x * x


def die(x):
    os._exit(9)


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


def test_a_worker_that_the_system_kills_is_explained():
    with pytest.raises(StudyError, match="want of memory .*start again with fewer workers"):
        list(over_processes(die, [1, 2], 2))


def test_a_worker_that_crashes_is_not_said_to_want_memory():
    for work in (lambda: list(over_processes(crash, [1, 0], 2)), lambda: apart(crash, 1)):
        with pytest.raises(StudyError, match=r"crashed \(SIGABRT\): a fault in a library") as raised:
            work()
        assert "fewer workers" not in str(raised.value)


def test_work_apart_is_done_in_another_process():
    assert apart(slow, 0) != os.getpid()
    with pytest.raises(TypeError):
        apart(square, "a")


def test_workers_end_with_the_loop():
    start = time.time()
    results = over_processes(slow, [0, 1, 2], 2)
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
