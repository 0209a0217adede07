"""Threads of a BLAS that a process has, and how often they have run: what the tests of pools stand on.

For child processes, which import this before NumPy. Linux alone tells.
"""

import contextlib
import os

TASKS = "/proc/self/task"


def threads():
    """Those of this process, by their ids."""
    return {int(name) for name in os.listdir(TASKS)}


class Pool:
    """Threads that the library started when it was loaded, or at its first product."""

    def __init__(self, ids):
        self.ids = sorted(ids)

    @classmethod
    def of_numpy(cls):
        """NumPy's own: to be called before anything imports it."""
        before = threads()
        import numpy as np

        np.ones((300, 300)) @ np.ones((300, 300))
        return cls(threads() - before)

    @classmethod
    def of_scipy(cls):
        """SciPy's own, likewise, but after NumPy."""
        before = threads()
        import numpy as np
        from scipy.linalg import blas

        blas.dgemm(1.0, np.ones((300, 300)), np.ones((300, 300)))
        return cls(threads() - before)

    def used(self):
        """Nanoseconds of processor time, and how often they were given a core."""
        found = [0, 0]
        for thread in self.ids:
            with open(f"{TASKS}/{thread}/schedstat", encoding="ascii") as file:
                time, _, turns = map(int, file.read().split())
            found[0] += time
            found[1] += turns
        return found

    def asleep(self):
        """Whether none of them runs or spins."""
        states = set()
        for thread in self.ids:
            with open(f"{TASKS}/{thread}/stat", encoding="ascii") as file:
                states.add(file.read().rsplit(")", 1)[1].split()[0])
        return states <= {"S"}

    def settle(self):
        """Wait until they have stopped to spin, which takes a tenth of a second."""
        while not self.asleep():
            os.sched_yield()

    @contextlib.contextmanager
    def watched(self, turns):
        """Adds to `turns` how often a thread was given a core in the block.

        A call that gives work to the threads waits for it: what they did is known when it returns.
        """
        self.settle()
        before = self.used()
        yield
        after = self.used()
        turns.append(after[1] - before[1] if after != before else 0)
