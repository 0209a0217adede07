"""One map over chunks, event by event: beside the formula of `cluster_model`, which adds up what may overlap.

The scheduler sends one task after another: those of the chunks in order, beside each other on one worker, and
a sum once all that it adds has been reported. A worker runs as many as it has threads; a sum is placed where
its first part is, and pulls the others over the link of its worker, one by one.
"""

from __future__ import annotations

import collections
import heapq
import itertools

from cluster_model import FEW, TOGETHER, Cluster, Fit, Map, Rates, iteration


def simulated(each: Map, fit: Fit, cluster: Cluster, rates: Rates) -> float:
    """Seconds until the client has the result of one map."""
    C, link, half = cluster.chunks, cluster.link, 0.5 * rates.level
    row = each.single * rates.single + each.double * rates.double + fit.conditions * rates.element
    work = row * -(-fit.channels // C)
    parents, parts, worker = _tree(C, cluster.workers)
    added = each.part > 0 and C > FEW
    waiting = {s: len(found) for s, found in parts.items()} if added else {}
    root = len(worker) - 1 if added else None
    free = [cluster.threads] * cluster.workers  # threads
    queues: list[collections.deque[int]] = [collections.deque() for _ in free]
    idle_link = [0.0] * cluster.workers  # when what was asked for before is there
    order = itertools.count()
    events: list[tuple[float, int, str, int]] = []
    sender, end = rates.start, 0.0

    def at(time: float, what: str, task: int) -> None:
        heapq.heappush(events, (time, next(order), what, task))

    for c in range(C):
        sender += rates.task + each.sent / link
        at(sender, "arrived", c)
    while events:
        now, _, what, task = heapq.heappop(events)
        w = worker[task]
        if what == "arrived" and task >= C:  # a sum pulls its parts
            remote = sum(worker[part] != w for part in parts[task])
            idle_link[w] = max(idle_link[w], now) + remote * each.part / link
            at(idle_link[w] + (half if task != root else 0.0), "reported", task)
        elif what == "arrived":
            queues[w].append(task)
        elif what == "ran":
            free[w] += 1
            at(now + (half if waiting else 0.0), "reported", task)
        else:
            end = max(end, now)
            if waiting and task != root:
                above = parents[task]
                waiting[above] -= 1
                if not waiting[above]:
                    sender = max(sender, now) + rates.task
                    at(sender + half, "arrived", above)
        while free[w] and queues[w]:
            free[w] -= 1
            at(now + work, "ran", queues[w].popleft())
    vectors = each.vectors * fit.channels * max(rates.byte, 2 / link)
    return end + vectors + (1 if added else C) * each.part / link


def _tree(chunks: int, workers: int) -> tuple[dict[int, int], dict[int, list[int]], list[int]]:
    """Of chunks and sums, numbered one after the other: what adds each, what each adds, and where it is."""
    worker = [c * workers // chunks for c in range(chunks)]
    parents: dict[int, int] = {}
    parts: dict[int, list[int]] = {}
    level = list(range(chunks))
    while len(level) > 1:
        above = []
        for first in range(0, len(level), TOGETHER):
            some = level[first : first + TOGETHER]
            if len(some) > 1:
                parts[len(worker)] = some
                parents.update(dict.fromkeys(some, len(worker)))
                some = [len(worker)]
                worker.append(worker[parts[some[0]][0]])
            above += some
        level = above
    return parents, parts, worker


def simulated_iteration(fit: Fit, cluster: Cluster, rates: Rates) -> float:
    return sum(simulated(each, fit, cluster, rates) for each in iteration(fit))
