"""Checks of what is written: python3 -m unittest checks. Nothing is measured here."""

import os
import tempfile
import types
import unittest
from unittest import mock

import report
import stages
from compare import Results
from peers import PEERS
from rows import TABLES

ARGS = types.SimpleNamespace(rounds=5, seconds=1.0, idle=500, cores=[0, 1], cache="/nonexistent", plimsoll=None, unftp=None)


def results(**figures):
    """Those servers with these values of a figure, and the others with none."""
    out = Results(PEERS)
    for name, values in figures.items():
        out.figures[name.replace("_", "-")].update(values)
    return out


def row(table, title):
    return next(line for line in table.splitlines() if line.startswith(f"| {title} |"))


class Tables(unittest.TestCase):
    def test_a_cell_has_the_median_and_the_least_and_the_most(self):
        seen = results(plimsoll={"logon16.rate": [5, 1, 9, 4, 3]}, floor={"logon16.rate": [8, 8, 2, 8, 9]})
        line = row(report.table("Logons", PEERS, seen, ARGS), "logons a second, 16 clients")
        self.assertIn("4.00 (1.00 to 9.00) | 8.00 (2.00 to 9.00) | 0.50 |", line)

    def test_the_best_is_bold_whoever_it_is_but_for_the_floor(self):
        seen = results(
            plimsoll={"logon16.rate": [10], "logon16.cpu": [5]},
            floor={"logon16.rate": [99], "logon16.cpu": [1]},
            unftp={"logon16.rate": [30], "logon16.cpu": [7]},
        )
        table = report.table("Logons", PEERS, seen, ARGS)
        more, less = row(table, "logons a second, 16 clients"), row(table, "CPU for each logon, 16 clients, µs")
        self.assertEqual((more.count("**"), less.count("**")), (2, 2))
        self.assertIn("| **30.0** (30.0 to 30.0) |", more)
        self.assertIn("| **5.00** (5.00 to 5.00) |", less)

    def test_what_failed_and_what_was_refused_is_told(self):
        seen = results(plimsoll={"logon16.rate": [1], "logon16.bad": [0, 7]}, vsftpd={"rest.user": [1]})
        seen.fail("vsftpd", "logon16", "it does not greet")
        self.assertIn("| failed |", row(report.table("Logons", PEERS, seen, ARGS), "logons a second, 16 clients"))
        told = report.what_failed(PEERS, seen, ARGS)
        self.assertIn("plimsoll 7 in logon16", told)
        self.assertIn("vsftpd logon16 in 1 of 5 rounds (it does not greet)", told)

    def test_the_document_is_replaced_between_its_marks_and_has_its_pictures(self):
        with tempfile.TemporaryDirectory() as docs:
            path = os.path.join(docs, "PERFORMANCE.md")
            with open(path, "w") as f:
                f.write(f"before\n{report.BEGIN}\nan earlier run\n{report.END}\nafter\n")
            report.write(docs, PEERS, results(plimsoll={"logon16.rate": [2, 1, 3]}, vsftpd={"logon16.rate": [1]}), ARGS)
            with open(path) as f:
                text = f.read()
            with open(os.path.join(docs, "compare-logons.svg")) as f:
                picture = f.read()
        self.assertTrue(text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n"))
        self.assertNotIn("an earlier run", text)
        self.assertIn("](compare-logons.svg)", text)
        self.assertIn("vsftpd", picture)

    def test_every_row_has_figures_that_a_stage_gives(self):
        steps = {step for stage in stages.stages(ARGS) for step in stage.steps}
        for rows in TABLES.values():
            for title, key, _, _ in rows:
                self.assertIn(key.partition(".")[0], steps, title)


class Growth(unittest.TestCase):
    def test_few_open_sessions_are_measured_before_and_after_many(self):
        # Each logon is dearer than the one before, whatever is open.
        costs = iter((0, 40, 44, 48))
        crowd = mock.MagicMock()
        crowd.__enter__.return_value = crowd
        with (
            mock.patch.object(stages, "Crowd", return_value=crowd),
            mock.patch.object(stages, "load", side_effect=lambda *_: next(costs)),
            mock.patch.object(stages, "sessions", side_effect=lambda cpu, _: {"cpu": cpu, "bad": 1}),
            mock.patch.object(stages.time, "sleep"),
        ):
            figures = stages.growth(ARGS, None, {})
        self.assertEqual(figures, {"few": 44, "many": 44, "ratio": 1, "bad": 3})
        open_then = [call.args[0] for call in crowd.shrink.call_args_list]
        self.assertEqual(open_then, [stages.FEW_OPEN, stages.MANY_OPEN, stages.FEW_OPEN])


if __name__ == "__main__":
    unittest.main()
