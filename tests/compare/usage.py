"""CPU time and memory of a server's whole process tree: by cgroups (v1 or v2) where they can be made, else by /proc."""

import os
import signal
import time

ROOT = "/sys/fs/cgroup"
TICK = os.sysconf("SC_CLK_TCK")


def read(path):
    with open(path) as f:
        return f.read()


def number(path):
    return int(read(path))


def field(path, name):
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise OSError(f"{path}: no {name}")


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

    def memory(self):
        """Bytes of user memory (anonymous) and of kernel memory, None where it can't be known."""
        try:
            if "memory" in self.made:
                path = self.made["memory"]
                kernel = number(f"{path}/memory.kmem.usage_in_bytes")
                return {"user": field(f"{path}/memory.stat", "rss"), "kernel": kernel}
            if "" in self.made:
                stat = f"{self.made['']}/memory.stat"
                kernel = sum(field(stat, k) for k in ("kernel_stack", "pagetables", "slab", "sock"))
                return {"user": field(stat, "anon"), "kernel": kernel}
        except OSError:
            pass
        user = 0
        for p in self.tree():
            try:
                for line in read(f"/proc/{p}/smaps_rollup").splitlines():
                    if line.startswith("Pss_Anon:"):
                        user += int(line.split()[1]) * 1024
            except OSError:
                continue
        return {"user": user, "kernel": None}

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
