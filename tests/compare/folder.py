"""The folder that all servers serve."""

import os

MANY = 20_000
HUGE = 200_000
BIG = 256 << 20


def make(root):
    """A small file, a big one whose pages are no holes, and two folders of many, whose files have a size alone."""
    os.umask(0o022)
    os.makedirs(root)
    with open(f"{root}/small", "wb") as f:
        f.write(b"s" * 1024)
    block = os.urandom(1 << 20)
    with open(f"{root}/big", "wb") as f:
        for _ in range(BIG >> 20):
            f.write(block)
    for name, count in (("many", MANY), ("huge", HUGE)):
        os.makedirs(f"{root}/{name}")
        for i in range(count):
            file = os.open(f"{root}/{name}/package-{i:06}_1.0-{i % 9}_all.deb", os.O_WRONLY | os.O_CREAT, 0o644)
            os.ftruncate(file, i % 7)
            os.close(file)
