#!/usr/bin/env python3
"""Measures plimsoll, the floor and other FTP servers one at a time on loopback; started by scripts/compare."""

import argparse
import json
import os
import resource
import signal
import time

import folder
import report
from peers import PEERS
from progress import Progress, say
from server import Running
from stages import stages
from usage import Missing

ERRORS = (OSError, RuntimeError, Missing)


class Results:
    """By server: the values of each figure, one a round, and why steps have failed."""

    def __init__(self, peers):
        self.figures = {p.name: {} for p in peers}
        self.failures = {p.name: {} for p in peers}

    def keep(self, name, step, figures):
        for key, value in figures.items():
            self.figures[name].setdefault(f"{step}.{key}", []).append(value)

    def fail(self, name, step, why):
        self.failures[name].setdefault(step, []).append(str(why))


def measure_stage(env, peer, stage, before, results, progress):
    """One stage on a server of its own; before holds the figures that this round has so far."""
    server, failed = None, None
    try:
        server = Running(peer, env, stage)
    except ERRORS as e:
        failed = e
    try:
        for step, run in stage.steps_of(peer).items():
            progress.show(f"{peer.title}, {step}")
            began = time.monotonic()
            try:
                if failed:
                    raise failed
                figures = run(env, server, before)
                before.update({f"{step}.{key}": value for key, value in figures.items()})
                results.keep(peer.name, step, figures)
            except ERRORS as e:
                progress.note(f"{peer.name}: {step}: {e}")
                results.fail(peer.name, step, e)
            progress.done(began)
    finally:
        if server:
            server.end()


def arguments():
    p = argparse.ArgumentParser(prog="scripts/compare")
    p.add_argument("--rounds", type=int, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--only", default="")
    p.add_argument("--idle", type=int, required=True)
    p.add_argument("--cache", required=True)
    p.add_argument("--plimsoll", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--docs", default="")
    p.add_argument("--peers", default="")
    p.add_argument("--unftp", default="")
    return p.parse_args()


def leave_on_signals():
    def stop(number, _frame):
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def main():
    args = arguments()
    chosen = [n for n in args.only.split(",") if n]
    present = set(args.peers.split(",")) | {"plimsoll", "floor"}
    peers = [q for q in PEERS if q.name in present and (not chosen or q.name in chosen)]
    leave_on_signals()
    # A thousand sessions, and the servers inherit it.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.chmod(args.work, 0o755)
    args.root = f"{args.work}/site"
    args.cores = sorted(os.sched_getaffinity(0))
    say("making the folder that is served")
    folder.make(args.root)
    plan = stages(args)
    # Each round begins with another server, so that none is always the first or the last.
    turns = [(number, peers[(at + number) % len(peers)]) for number in range(args.rounds) for at in range(len(peers))]
    steps = [(peer.name, step) for _, peer in turns for stage in plan for step in stage.steps_of(peer)]
    progress, results = Progress(steps, args.seconds + 1), Results(peers)
    for number, peer in turns:
        progress.show(f"round {number + 1} of {args.rounds}: {peer.title}", always=True)
        before = {}
        for stage in plan:
            measure_stage(args, peer, stage, before, results, progress)
    progress.show("done", always=True)
    progress.note(f"took {time.monotonic() - progress.began:.0f} s")
    with open(args.out, "w") as f:
        took = {f"{name}.{step}": round(seconds, 1) for (name, step), seconds in progress.took.items()}
        json.dump({"figures": results.figures, "failures": results.failures, "seconds": took}, f, indent=1)
    if args.docs:
        report.write(args.docs, peers, results, args)
    print(report.text(peers, results, args))


if __name__ == "__main__":
    main()
