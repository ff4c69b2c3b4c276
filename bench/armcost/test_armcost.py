#!/usr/bin/env python3
"""Tests of armcost: python3 bench/armcost/test_armcost.py. Needs what armcost needs, and an aarch64 C compiler."""
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ARMCOST = Path(__file__).resolve().parent / "armcost"
spec = importlib.util.spec_from_loader("armcost", importlib.machinery.SourceFileLoader("armcost", str(ARMCOST)))
armcost = importlib.util.module_from_spec(spec)
sys.modules["armcost"] = armcost
spec.loader.exec_module(armcost)

A, B, C, D = ("00000000" * n for n in (1, 2, 3, 4))  # blocks of so many instructions; only their identity matters


def trace(runs, edges):
    found = armcost.Trace()
    found.runs.update(runs)
    found.edges.update(edges)
    return found


def run(*words):
    return subprocess.run([sys.executable, ARMCOST, *map(str, words)], capture_output=True, text=True)


class Chains(unittest.TestCase):
    def test_a_loop_of_two_blocks_with_a_rare_exit_is_one_chain(self):
        found = armcost.chains(trace({A: 1000, B: 990, C: 10}, {(A, B): 990, (A, C): 10, (B, A): 985, (C, A): 10}))
        loop = next(c for c in found if A in c.blocks)
        self.assertEqual((set(loop.blocks), loop.is_loop), ({A, B}, True))
        self.assertAlmostEqual(loop.executed, 1000 * 1 + 990 * 2)

    def test_blocks_that_follow_each_other_half_of_the_time_stay_apart(self):
        found = armcost.chains(trace({A: 100, B: 50, C: 50}, {(A, B): 50, (A, C): 50, (B, A): 50, (C, A): 50}))
        self.assertEqual(sorted(len(c.blocks) for c in found), [1, 1, 1])

    def test_a_block_that_repeats_is_a_loop_and_a_straight_run_is_not(self):
        found = armcost.chains(trace({A: 100, B: 10, D: 10}, {(A, A): 99, (B, D): 10}))
        self.assertEqual({tuple(c.blocks): c.is_loop for c in found}, {(A,): True, (B, D): False})

    def test_every_block_is_in_one_chain_even_beyond_the_length_limit(self):
        long = [f"{i:08x}" * 1000 for i in range(9)]
        found = armcost.chains(trace({b: 5 for b in long}, {(a, b): 5 for a, b in zip(long, long[1:])}))
        self.assertEqual(sorted(b for c in found for b in c.blocks), sorted(long))
        self.assertLessEqual(max(c.size for c in found), armcost.CHAIN_LIMIT)

    def test_the_difference_of_two_traces_drops_what_both_did(self):
        more = trace({A: 7, B: 3}, {(A, A): 6}).beyond(trace({A: 2, B: 3, C: 1}, {(A, A): 1}))
        self.assertEqual((dict(more.runs), dict(more.edges)), ({A: 5}, {(A, A): 5}))


class Pricing(unittest.TestCase):
    FMLA = [f"fmla v{i}.4s, v30.4s, v31.4s" for i in range(16)]

    def test_independent_multiply_adds_fill_the_vector_pipes(self):
        for core, pipes in (("cortex-a710", 2), ("cortex-x1", 4)):
            self.assertAlmostEqual(armcost.price([self.FMLA], core)[0].cycles, 16 / pipes, delta=0.2)
            self.assertAlmostEqual(armcost.percent_of_limit(self.FMLA, 64, 16 / pipes, core), 100, delta=2)

    def test_dependent_multiply_adds_cost_their_latency(self):
        self.assertGreater(armcost.price([self.FMLA[:1] * 16], "cortex-a710")[0].cycles, 25)

    def test_what_cannot_be_priced_is_guessed_and_does_not_spoil_its_neighbours(self):
        prices = armcost.price([self.FMLA, ["bogus x1", "nop"], self.FMLA], "cortex-a710")
        self.assertEqual([p.guessed for p in prices], [False, True, False])
        self.assertEqual((prices[1].cycles, prices[0].cycles), (2.0, prices[2].cycles))

    def test_a_core_that_is_none_is_refused(self):
        with self.assertRaisesRegex(armcost.Failure, "no core named A710; .*cortex-a710"):
            armcost.price([["fmla v0.4s, v1.4s, v2.4s"]], "A710")

    def test_what_the_model_lacks_is_left_out_and_counted(self):
        found = armcost.price([["nop", "sdot z2.s, z0.b, z1.b"]], "cortex-a55")[0]  # an A55 has no SVE
        self.assertEqual((found.left_out, found.guessed), (1, False))

    def test_words_that_are_no_instruction_are_absent_and_the_rest_keeps_its_place(self):
        self.assertEqual(armcost.disassemble(["d503201f", "ffffffff", "91000400"]),
                         {"d503201f": "nop", "91000400": "add\tx0, x0, #1"})

    def test_the_multiply_adds_of_every_kind_assemble_and_are_recognised(self):
        for kind, (macs, text) in armcost.MULTIPLY_ADDS.items():
            self.assertEqual(armcost.multiply_adds([text.format(1)]), (macs, kind))
            self.assertIsNotNone(armcost.run_mca([[text.format(1), "nop"]], "cortex-a710"), text)


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.here = Path(self.folder.name)

    def build(self, text):
        source, program = self.here / "p.c", self.here / "p"
        source.write_text(text)
        subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-static", "-o", program, source], check=True)
        return program

    def test_a_program_is_counted_exactly_and_named(self):
        program = self.build("""
            __attribute__((noinline)) void spin(long n) { do __asm__ volatile("mul x9, x10, x11"); while (--n); }
            int main(int argc, char **argv) { (void)argv; spin(argc * 100000L); return 0; }""")
        for name, words in (("a", []), ("b", ["again", "again"])):  # 100,000 and 300,000 rounds
            self.assertEqual(run("run", "--out", self.here / name, "--", program, *words).returncode, 0)
        done = run("cost", self.here / "a", self.here / "b", "--per", 2, "--hot", 1, "--json", "--cores", "cortex-a710")
        hot = json.loads(done.stdout)["hot"][0]
        self.assertEqual((hot["symbol"], hot["is_loop"], round(hot["runs"] / 1000)), ("spin", True, 100))
        self.assertGreater(hot["share"], 0.95)

    def test_a_failing_program_is_reported(self):
        done = run("run", "--out", self.here / "t", "--", self.build("int main(void) { return 3; }"))
        self.assertEqual((done.returncode, "ended with 3" in done.stderr), (1, True))

    def test_a_file_that_is_no_trace_is_refused(self):
        (self.here / "t").write_text("hello\n")
        done = run("cost", self.here / "t")
        self.assertEqual((done.returncode, "is not a trace" in done.stderr), (1, True))

    def test_a_loop_file_may_have_comments_and_labels_but_no_mistakes(self):
        loop = self.here / "l.s"
        loop.write_text("# body\n.Ltop:\n  fmla v0.4s, v1.4s, v2.s[0] // first\n  fmla v3.4s, v1.4s, v2.s[1]\n")
        row = json.loads(run("loop", loop, "--macs", 8, "--cores", "cortex-a710", "--json").stdout)[0]
        self.assertEqual(row["instructions_left_out"], 0)
        self.assertTrue(0 < row["percent_of_mac_limit"] <= 100.5)
        loop.write_text("fmal v0.4s, v1.4s, v2.4s\n")
        self.assertEqual(run("loop", loop).returncode, 1)


if __name__ == "__main__":
    unittest.main()
