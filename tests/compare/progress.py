"""How far the run is, and how long it may still take."""

import sys
import time

BAR = 24


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


class Progress:
    """Steps are given as (server, step) in the order in which they come."""

    def __init__(self, steps, guess):
        self.steps, self.guess, self.at = steps, guess, 0
        self.took = {}
        self.began = time.monotonic()
        self.live = sys.stderr.isatty()

    def expected(self, server, step):
        """Its own last time, or the mean of the others', or a guess: seconds."""
        if (server, step) in self.took:
            return self.took[server, step]
        others = [seconds for (_, other), seconds in self.took.items() if other == step]
        return sum(others) / len(others) if others else self.guess

    def left(self):
        return sum(self.expected(*step) for step in self.steps[self.at :])

    def line(self, text):
        done, most = self.at, len(self.steps)
        bar = "#" * (BAR * done // most)
        spent, left = ((seconds + 30) // 60 for seconds in (time.monotonic() - self.began, self.left()))
        return f"[{bar:.<{BAR}}] {done}/{most}, {spent:.0f} min, about {left:.0f} left: {text}"

    def show(self, text, always=False):
        """On a terminal the line is written over; elsewhere only the lines that are always shown are."""
        if self.live:
            print(f"\r\033[K{self.line(text)}", end="", file=sys.stderr, flush=True)
        elif always:
            say(self.line(text))

    def done(self, began):
        self.took[self.steps[self.at]] = time.monotonic() - began
        self.at += 1

    def note(self, text):
        """A line that stays."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr)
        say(text)
