"""What is measured: each stage has a server of its own, each step of it is some work and the figures of it."""

import contextlib
import os
import threading
import time

from clients import Crowd, leave_waiting, load, waiting
from folder import HUGE, MANY

POOL = 256
FEW_OPEN, MANY_OPEN = 10, 1000
# Sockets in TIME_WAIT in the range from which each server takes its passive ports.
WAITING = 20_000
# The passive ports of plimsoll and of the floor.
OWN_RANGE = range(20000, 30000)


class Stage:
    def __init__(self, name, steps, workers=POOL, file="small", pinned=False):
        self.name, self.steps = name, steps
        self.workers, self.file, self.pinned = workers, file, pinned

    def steps_of(self, peer):
        return {name: run for name, run in self.steps.items() if peer.lists or not name.startswith("list")}


def stages(env):
    """The stages for this host: without a second processor nothing is pinned."""
    out = [
        Stage(
            "small",
            {
                "rest": rest,
                "logon1": lambda e, s, _: sessions(load(e, s, "small", 1, "logon", e.seconds), "logon"),
                "logon16": lambda e, s, _: sessions(load(e, s, "small", 16, "logon", e.seconds), "logon"),
                "small8": lambda e, s, _: sessions(load(e, s, "small", 8, "fetch", e.seconds)),
                "listnew": lambda e, s, _: listing(e, s, "many/", MANY, changing=True),
                "list": lambda e, s, _: listing(e, s, "many/", MANY),
                "listhugenew": lambda e, s, before: list_huge(e, s, before, changing=True),
                "listhuge": list_huge,
            },
        ),
        Stage("big", {"big1": lambda e, s, _: big(e, s, 1), "big8": lambda e, s, _: big(e, s, 8)}, file="big"),
        Stage("idle", {"idle": idle}, workers=max(POOL, env.idle + 12)),
        Stage("growth", {"growth": growth}, workers=MANY_OPEN + 88),
        Stage("waiting", {"waiting": among_waiting}),
    ]
    if len(env.cores) > 1:
        steps = {"big1p": lambda e, s, _: big(e, s, 1, True), "big8p": lambda e, s, _: big(e, s, 8, True)}
        out.insert(2, Stage("pinned", steps, file="big", pinned=True))
    return out


def common(figures, times):
    return {"p50": times["p50"], "p99": times["p99"], "bad": figures["refused"] + figures["failed"]}


def sessions(figures, time_of="session"):
    return {
        **common(figures, figures["latency_ms"][time_of]),
        "rate": figures["sessions_per_s"],
        "cpu": figures["cpu_s"] * 1e6 / figures["succeeded"],
    }


def big(env, server, clients, pinned=False):
    figures = load(env, server, "big", clients, "fetch", env.seconds, pinned)
    gib = figures["received_bytes"] / 2**30
    return {
        **common(figures, figures["latency_ms"]["session"]),
        "rate": figures["mib_per_s"],
        "cpu": figures["cpu_s"] * 1000 / gib,
        "all": figures["all_cpu_s"] * 1000 / gib,
    }


class Changing:
    """A folder in which something changes all the time: far more often than it is listed."""

    def __init__(self, folder):
        self.file = f"{folder}/{min(os.listdir(folder))}"
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.001):
            os.utime(self.file)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def listing(env, server, path, files, most=None, changing=False):
    change = Changing(f"{env.root}/{path}") if changing else contextlib.nullcontext()
    with server.usage.watch() as watch, change:
        figures = load(env, server, path, 1, "list", env.seconds, sessions=most)
    if figures["received_bytes"] < figures["succeeded"] * files * 30:
        raise RuntimeError("the listing is cut short")
    return {
        **common(figures, figures["latency_ms"]["session"]),
        "rate": figures["sessions_per_s"],
        "cpu": figures["cpu_s"] * 1000 / figures["succeeded"],
        "peak": watch.most / 1024,
    }


def list_huge(env, server, before, changing=False):
    """Three listings at most: they may take seconds each. One before them is not counted, where nothing changes: a
    server may learn from it."""
    if not changing:
        listing(env, server, "huge/", HUGE, most=1)
    out = listing(env, server, "huge/", HUGE, most=3, changing=changing)
    small = before.get("listnew.cpu" if changing else "list.cpu")
    if small:
        out["growth"] = out["cpu"] / HUGE / (small / MANY)
    return out


def rest(_env, server, _before):
    return {kind: held / 1024 for kind, held in server.usage.settled().items() if held is not None}


def idle(env, server, _before):
    """Memory with so many clients that have logged in and say nothing, and what each has added."""
    empty = server.usage.settled()
    with Crowd(server) as crowd:
        crowd.grow(env.idle)
        held = server.usage.settled()
    out = {}
    for kind in ("user", "kernel"):
        if empty[kind] is not None and held[kind] is not None:
            out[f"each_{kind}"] = (held[kind] - empty[kind]) / 1024 / env.idle
            out[f"held_{kind}"] = held[kind] / 1024
    return out


def growth(env, server, _before):
    """What a logon costs beside few and beside many sessions that are open. Beside few it is measured before and after,
    because each logon leaves a socket in TIME_WAIT, and among those the next ones are dearer."""
    cpu, bad = {"few": [], "many": []}, 0
    with Crowd(server) as crowd:
        # The first sessions of a server cost more than later ones.
        load(env, server, "small", 16, "logon", max(0.1, env.seconds / 4))
        for name, count in (("few", FEW_OPEN), ("many", MANY_OPEN), ("few", FEW_OPEN)):
            crowd.grow(count)
            crowd.shrink(count)
            # Who leaves takes a while, where each session is a process.
            time.sleep(1)
            figures = sessions(load(env, server, "small", 16, "logon", env.seconds), "logon")
            cpu[name].append(figures["cpu"])
            bad += figures["bad"]
    few, many = (sum(cpu[name]) / len(cpu[name]) for name in ("few", "many"))
    return {"few": few, "many": many, "ratio": many / few, "bad": bad}


def among_waiting(env, server, before):
    """Small files once the passive ports that a server has used up lie in TIME_WAIT."""
    if not server.own_network:
        raise RuntimeError("no network of its own")
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = (int(x) for x in f.read().split())
    # In the order in which the kernel gives them out: the odd ones first.
    given = sorted(range(low, high + 1), key=lambda port: port % 2 == 0)
    leave_waiting(given[:WAITING], 10000)
    for number in range(WAITING // len(OWN_RANGE)):
        # Another pair of ports each time: it would be the same socket otherwise.
        leave_waiting(OWN_RANGE, 10001 + number)
    found = waiting()
    out = sessions(load(env, server, "small", 8, "fetch", env.seconds))
    out.update(before=found, after=waiting())
    if "small8.cpu" in before:
        out["ratio"] = out["cpu"] / before["small8.cpu"]
    return out
