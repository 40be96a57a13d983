"""Kills a server in the middle of uploads, at every system call and at points in time, and looks at what is left.

Whenever it dies, the name has its old content or its new one, whole; it has the new one if the server said 226;
nothing else can be seen beside it; and the next server removes whatever the dead one has left hidden.
"""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
import time

from server import Killed, Server, Strace, can_hide_proc
from upload import Upload

OLD = b"the old content, which somebody needs\n" * 2_000
NEW = b"the new content, of another length\n" * 18_000

# Longest wait of a kill by the clock, in seconds: an upload takes a few thousandths.
LATEST = 0.006


class Case:
    """One way to store a file: with syncs or without, to a file with a hidden name or none, over another or not."""

    def __init__(self, durable, hidden, fresh):
        self.durable, self.hidden, self.fresh = durable, hidden, fresh

    def __str__(self):
        return "--durable {}, {}, {}".format(
            "on" if self.durable else "off",
            "with hidden names" if self.hidden else "without names",
            "a new file" if self.fresh else "over an old file",
        )


class Stage:
    """A folder, and one server after the other on it."""

    def __init__(self, binary, scratch):
        self.binary, self.scratch = binary, scratch
        self.root = os.path.join(scratch, "root")
        self.path = os.path.join(self.root, "file")
        os.mkdir(self.root)
        self.counts = {"points": 0, "calls": 0, "killed": 0, "old": 0, "new": 0, "acknowledged": 0, "hidden": 0}

    def hidden(self):
        return [name for name in os.listdir(self.root) if name.startswith(".plimsoll-")]

    def prepare(self, case):
        """What is there before the upload, and a server that has swept what the last one left."""
        server = Server(self.binary, self.root, self.scratch, case.durable, case.hidden)
        if self.hidden():
            server.kill()
            raise Killed(f"the next server left {self.hidden()}")
        if case.fresh:
            if os.path.exists(self.path):
                os.remove(self.path)
        else:
            with open(self.path, "wb") as file:
                file.write(OLD)
        return server

    def calls(self, case):
        """The system calls of an upload that nobody disturbs: each its name, and the how many of that name it is."""
        server = self.prepare(case)
        upload = Upload(server.port)
        notes = os.path.join(self.scratch, "notes")
        strace = Strace(server.worker(), notes)
        replies = upload.run(NEW)
        strace.end()
        server.kill()
        self.judge(case, replies, f"{case}, undisturbed")
        if not replies[-1].startswith("226 "):
            raise Killed(f"{case}: an undisturbed upload was answered {replies}")
        seen, calls = {}, []
        with open(notes, encoding="utf-8", errors="replace") as file:
            for name in re.findall(r"^(\w+)\(", file.read(), re.MULTILINE):
                seen[name] = seen.get(name, 0) + 1
                calls.append((name, seen[name]))
        return calls

    def at_call(self, case, call):
        """Killed when it is about to make this system call."""
        server = self.prepare(case)
        upload = Upload(server.port)
        strace = Strace(server.worker(), os.devnull, call)
        replies = upload.run(NEW)
        server.kill()
        strace.end()
        self.counts["calls"] += 1
        self.count(case, replies, f"{case}, at {call[0]}, number {call[1]}")

    def at_time(self, case, delay):
        """Killed so many seconds after the command."""
        server = self.prepare(case)
        upload = Upload(server.port)
        replies = upload.run(NEW, lambda: (time.sleep(delay), server.strike()))
        server.kill()
        self.count(case, replies, f"{case}, after {delay * 1000:.2f} ms")

    def count(self, case, replies, what):
        acknowledged = replies[-1:] and replies[-1].startswith("226 ")
        self.counts["points"] += 1
        self.counts["killed"] += not acknowledged
        self.counts["acknowledged"] += bool(acknowledged)
        self.counts["hidden"] += bool(self.hidden())
        self.counts["new" if self.judge(case, replies, what) else "old"] += 1

    def judge(self, case, replies, what):
        """Whether the name has its new content; an error if it has neither."""
        try:
            with open(self.path, "rb") as file:
                found = file.read()
        except FileNotFoundError:
            found = None
        old = None if case.fresh else OLD
        if found not in (old, NEW):
            kind = "nothing" if found is None else f"{len(found)} bytes that are neither the old nor the new ones"
            raise Killed(f"{what}: {kind} under the name")
        if replies[-1:] and replies[-1].startswith("226 ") and found != NEW:
            raise Killed(f"{what}: it was acknowledged, and the name has its old content")
        others = [name for name in os.listdir(self.root) if name != "file" and not name.startswith(".plimsoll-")]
        if others:
            raise Killed(f"{what}: there are {others}")
        return found == NEW


class Bar:
    """How far it has come, on a terminal or not."""

    WIDTH = 30

    def __init__(self, total):
        self.total, self.shown = total, None

    def show(self, done):
        full = done * self.WIDTH // self.total
        # In a log six lines will do.
        if not sys.stderr.isatty() and (full == self.shown or full % 5 > 0):
            return
        self.shown = full
        end = "" if sys.stderr.isatty() and done < self.total else "\n"
        start = "\r" if sys.stderr.isatty() else ""
        bar = "#" * full + "." * (self.WIDTH - full)
        print(f"{start}crash: [{bar}] {done} of {self.total}", end=end, file=sys.stderr, flush=True)


def plan(stage, points, dice):
    """What is done at each point: every call, or every so many, and points in time for the rest."""
    modes = [False, True] if can_hide_proc() else [False]
    if len(modes) == 1:
        skip("files with hidden names: a namespace without /proc can't be made")
    short = points < 200
    cases = [Case(durable, hidden, fresh) for durable in (True, False) for hidden in modes for fresh in (False, True)]
    if short:
        cases = [case for case in cases if not case.fresh]
    steps = []
    if shutil.which("strace"):
        for case in cases:
            calls = stage.calls(case)
            share = max(1, -(-len(calls) * len(cases) // points)) if short else 1
            steps += [
                lambda case=case, call=call: stage.at_call(case, call) for call in calls[dice.randrange(share) :: share]
            ]
    else:
        skip("system calls: strace(1) is not there")
    while len(steps) < points:
        case, delay = dice.choice(cases), dice.random() ** 2 * LATEST
        steps.append(lambda case=case, delay=delay: stage.at_time(case, delay))
    return steps


def skip(why):
    if os.environ.get("PLIMSOLL_REQUIRE_TOOLS") == "1":
        raise Killed(f"PLIMSOLL_REQUIRE_TOOLS is 1, but {why}")
    print(f"skipped: {why}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the binary")
    parser.add_argument("--points", type=int, default=1000, help="at least so many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the points in time")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plimsoll-crash-") as scratch:
        try:
            stage = Stage(arguments.server, scratch)
            steps = plan(stage, arguments.points, random.Random(arguments.seed))
            bar = Bar(len(steps))
            for done, step in enumerate(steps, 1):
                step()
                bar.show(done)
            stage.prepare(Case(True, False, False)).kill()
        except Killed as error:
            print(f"\ncrash: {error}", file=sys.stderr)
            return 1
    counts = stage.counts
    print(
        "crash: {points} points, {calls} of them at system calls: {killed} kills in mid-upload, {acknowledged} after it; "
        "the name had its old content {old} times and its new one {new} times; "
        "{hidden} left something hidden, and all of it was swept; "
        "0 torn; {seconds:.0f} s".format(**counts, seconds=time.monotonic() - began)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
