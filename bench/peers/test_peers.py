#!/usr/bin/env python3
"""Tests of what the measuring scripts share: python3 bench/peers/test_peers.py. Needs no peer and no sparrow."""
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import cases  # noqa: E402
import native  # noqa: E402

# Stands for the sparrow program: `convert` records its arguments, `bench` answers with the latency it is told.
SPARROW = """#!/usr/bin/env python3
import json, sys
words = sys.argv[1:]
if words[0] == "convert":
    if "{fail}":
        sys.exit("net.onnx\\nlayer conv1: unknown operator\\nremedy: none")
    open(words[words.index("-o") + 1], "w").write(json.dumps(words))
else:
    print(json.dumps({{"latency_ms": {{"min": 1.5, "median": 2.0, "p90": 3.0}}}}))
"""


class Lab(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.lab = Path(folder.name)
        (self.lab / "models").mkdir()
        for name in ("mobilenet-v1.onnx", "mobilenet-v1.calibration.npz", "mobilenet-v1-s50-int8.onnx"):
            (self.lab / "models" / name).touch()
        self.sparrow = self.program("")

    def program(self, fail):
        path = self.lab / f"program{fail}"
        path.write_text(SPARROW.format(fail=fail))
        path.chmod(0o755)
        return str(path)

    def case(self, precision="int8", sparsity=0.5):
        return cases.Case(cases.NETWORKS["mobilenet-v1"], precision, sparsity)


class Converting(Lab):
    def test_the_arguments_say_what_the_case_says(self):
        words = json.loads(cases.sparrow_file(self.lab, self.sparrow, self.case()).read_text())
        models = self.lab / "models"
        self.assertEqual(words, ["convert", f"{models}/mobilenet-v1.onnx", "-o",
                                 f"{self.lab}/sparrow/mobilenet-v1-int8-s50.spw", "--precision", "int8",
                                 "--sparsity", "0.5", "--calibrate", f"{models}/mobilenet-v1.calibration.npz"])
        blocks = dataclasses.replace(self.case(), pattern="16")
        self.assertEqual(json.loads(cases.sparrow_file(self.lab, self.sparrow, blocks).read_text())[-4:-2], ["--pattern", "16"])
        words = json.loads(cases.sparrow_file(self.lab, self.sparrow, self.case("f32", 0.0)).read_text())
        self.assertEqual(words[4:], ["--precision", "f32"])

    def test_it_is_done_again_only_when_the_program_or_the_network_is_newer(self):
        path = cases.sparrow_file(self.lab, self.sparrow, self.case())
        path.write_text("kept")
        self.assertEqual(cases.sparrow_file(self.lab, self.sparrow, self.case()).read_text(), "kept")
        for changed in (self.sparrow, self.lab / "models" / "mobilenet-v1.onnx"):
            os.utime(changed, (path.stat().st_mtime + 5,) * 2)
            self.assertNotEqual(cases.sparrow_file(self.lab, self.sparrow, self.case()).read_text(), "kept")
            os.utime(changed, (1, 1))
            path.write_text("kept")

    def test_a_failure_tells_what_the_program_said(self):
        with self.assertRaisesRegex(cases.Unavailable, "conv1: unknown operator; remedy: none"):
            cases.sparrow_file(self.lab, self.program("fail"), self.case())

    def test_a_missing_program_or_network_is_named(self):
        with self.assertRaisesRegex(cases.Unavailable, "nowhere"):
            cases.sparrow_file(self.lab, str(self.lab / "nowhere"), self.case())
        with self.assertRaisesRegex(cases.Unavailable, "mobilenet-v2.onnx is missing"):
            cases.sparrow_file(self.lab, self.sparrow, cases.Case(cases.NETWORKS["mobilenet-v2"], "f32", 0.0))


class Cases(Lab):
    def test_runs_are_ours_our_dense_and_every_peer_that_has_the_precision(self):
        runs = cases.described(self.lab, self.sparrow, "native", self.case())["runs"]
        self.assertEqual([(r["name"], "file" in r) for r in runs],
                         [("Sparrow", True), ("Sparrow dense", True), ("LiteRT", False), ("ONNX Runtime", True)])

    def test_selection_keeps_to_what_a_place_and_a_network_have(self):
        args = types.SimpleNamespace(networks=["mobilenet-v1", "mobilenet-v2"], precision=["f16", "int8"],
                                     sparsity=[0.0, 0.8], pattern="auto")
        labels = lambda where: [case.label for case in cases.select(where, args)]
        self.assertEqual(labels("native"), ["mobilenet-v1 int8", "mobilenet-v1 int8 80% sparse", "mobilenet-v2 int8"])
        self.assertEqual(labels("arm")[:2], ["mobilenet-v1 f16", "mobilenet-v1 f16 80% sparse"])

    def test_the_command_prints_them_as_json(self):
        command = [sys.executable, HERE / "cases.py", "--lab", self.lab, "--where", "web", "--precision", "f32",
                   "--networks", "mobilenet-v1", "--sparsity", "0.3"]
        (case,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        self.assertEqual((case["precision"], case["sparsity"], len(case["runs"])), ("f32", 0.3, 2))


class Measuring(Lab):
    class Steady:
        """A runner whose turns take what they are told to."""
        version = "1.0"

        def __init__(self, name, *medians):
            self.name, self.medians, self.asked = name, list(medians), []

        def turn(self, runs):
            self.asked.append(runs)
            median = self.medians[min(len(self.asked) - 1, len(self.medians) - 1)]
            return native.Turn(median, median / 2)

    def test_everybody_takes_turns_of_the_same_length(self):
        slow, fast = self.Steady("slow", 100.0), self.Steady("fast", 1.0)
        turns = native.take_turns([slow, fast], rounds=3, turn_ms=250)
        self.assertEqual((slow.asked[1:], fast.asked[1:]), ([native.LEAST_RUNS] * 3, [250] * 3))
        self.assertEqual([len(t) for t in turns.values()], [3, 3])

    def test_a_drifting_machine_leaves_the_ratio_alone(self):
        ours, theirs = self.Steady("Sparrow", 1.0, 1.0, 2.0, 4.0), self.Steady("LiteRT", 2.0, 2.0, 4.0, 8.0)
        args = types.SimpleNamespace(rounds=3, turn_ms=10)
        native_contenders, native.contenders = native.contenders, lambda *_: ([ours, theirs], {"MNN": "no file"})
        self.addCleanup(setattr, native, "contenders", native_contenders)
        first, second = native.measure(args, self.case())
        self.assertEqual((first["peer"], first["ours_ms"], first["peer_ms"], first["ratio"], first["best_ratio"]),
                         ("LiteRT", 2.0, 4.0, 0.5, 0.5))
        self.assertEqual((second["peer"], second["peer_ms"], second["ratio"], second["note"]),
                         ("MNN", None, None, "no file"))

    def test_sparrow_bench_is_asked_and_understood(self):
        self.assertEqual(native.Sparrow("Sparrow", "x.spw", self.sparrow).turn(5), native.Turn(2.0, 1.5))
        with self.assertRaises(cases.Unavailable):
            native.Sparrow("Sparrow", "x.spw", "true").turn(5)


if __name__ == "__main__":
    unittest.main()
