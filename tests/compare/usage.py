"""CPU time and memory of a server's whole process tree: by cgroups (v1 or v2) where they can be made, else by /proc."""

import os
import signal
import threading
import time

ROOT = "/sys/fs/cgroup"
TICK = os.sysconf("SC_CLK_TCK")
# Seconds after which memory is at rest; version 2 of cgroups adds up its counts every two seconds.
SETTLE, SETTLE_V2 = 0.3, 2.2
# Seconds between two looks at memory.
LOOK = 0.02


class Missing(Exception):
    """The kernel does not tell that. No OSError, which is what is raised where a process has just ended."""


def read(path):
    with open(path) as f:
        return f.read()


def number(path):
    return int(read(path))


def field(path, name, unit=1):
    for line in read(path).splitlines():
        words = line.split()
        if words[0] == name:
            return int(words[1]) * unit
    raise Missing(f"{path}: no {name}")


class Watch:
    """The most user memory that a server has while this is open."""

    def __init__(self, usage):
        self.usage, self.most, self.over, self.failed = usage, 0, threading.Event(), None
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        try:
            while not self.over.is_set():
                self.most = max(self.most, self.usage.user_memory())
                self.over.wait(LOOK)
        except Missing as e:
            self.failed = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        if self.failed:
            raise self.failed


class Usage:
    def __init__(self, name):
        self.pid = None
        self.made = {}
        label = f"plimsoll-compare-{os.getpid()}-{name}"
        wanted = ["cpuacct", "memory"] if os.path.isdir(f"{ROOT}/memory") else [""]
        own = {}
        for line in read("/proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                own[controller] = path
        for controller in wanted:
            base = f"{ROOT}/{controller}".rstrip("/")
            near = base + own.get(controller, "/").rstrip("/")
            # Version 2 allows no processes beside cgroups with controllers, so a sibling is tried first.
            for parent in ([os.path.dirname(near), near] if not controller else [near, base]):
                path = f"{parent}/{label}"
                try:
                    os.mkdir(path)
                    if os.path.exists(f"{path}/cgroup.procs"):
                        self.made[controller] = path
                        break
                    os.rmdir(path)
                except OSError:
                    continue

    def enter(self):
        """In the child, before the server."""
        for path in self.made.values():
            with open(f"{path}/cgroup.procs", "w") as f:
                f.write("0")

    def tree(self):
        """The processes below the server's first, and it: by parent, and by session for those that left."""
        found, known = {self.pid}, {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    after = read(f"/proc/{entry}/stat").rpartition(")")[2].split()
                    known[int(entry)] = (int(after[1]), int(after[3]))
                except OSError:
                    continue
        grew = True
        while grew:
            more = {p for p, (parent, session) in known.items() if parent in found or session == self.pid} - found
            found |= more
            grew = bool(more)
        return found

    def cpu(self):
        """Seconds of user and system time so far, dead children included."""
        if "cpuacct" in self.made:
            return number(f"{self.made['cpuacct']}/cpuacct.usage") / 1e9
        if "" in self.made:
            return field(f"{self.made['']}/cpu.stat", "usage_usec") / 1e6
        ticks = 0
        for p in self.tree():
            try:
                after = read(f"/proc/{p}/stat").rpartition(")")[2].split()
                ticks += sum(int(x) for x in after[11:15])
            except OSError:
                continue
        return ticks / TICK

    def processes(self):
        """Those of the cgroup, which are had at once, or of the tree."""
        for path in self.made.values():
            return [int(p) for p in read(f"{path}/cgroup.procs").split()]
        return self.tree()

    def user_memory(self):
        """Bytes of anonymous memory now. The cgroup's own count of it is up to two seconds late."""
        user = 0
        for p in self.processes():
            try:
                user += field(f"/proc/{p}/smaps_rollup", "Pss_Anon:", 1024)
            except OSError:
                continue
        return user

    def kernel_memory(self):
        """Bytes, or None where it can't be known."""
        try:
            if "memory" in self.made:
                return number(f"{self.made['memory']}/memory.kmem.usage_in_bytes")
            if "" in self.made:
                stat = f"{self.made['']}/memory.stat"
                return sum(field(stat, k) for k in ("kernel_stack", "pagetables", "slab", "sock"))
        except (OSError, Missing):
            pass
        return None

    def settled(self):
        """User and kernel memory once the clients and the kernel's counts have come to rest."""
        time.sleep(SETTLE_V2 if "" in self.made else SETTLE)
        return {"user": self.user_memory(), "kernel": self.kernel_memory()}

    def watch(self):
        return Watch(self)

    def kill(self):
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            alive = set()
            for path in self.made.values():
                alive |= {int(x) for x in read(f"{path}/cgroup.procs").split()}
            alive |= {p for p in self.tree() if self.living(p)}
            alive.discard(os.getpid())
            if not alive:
                return
            for p in alive:
                try:
                    os.kill(p, signal.SIGKILL)
                except OSError:
                    continue
            time.sleep(0.05)

    @staticmethod
    def living(p):
        try:
            return read(f"/proc/{p}/stat").rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def remove(self):
        for path in self.made.values():
            for _ in range(50):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)
        self.made = {}
