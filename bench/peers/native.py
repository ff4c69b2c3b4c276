#!/usr/bin/env python3
"""One-thread latency of Sparrow beside ONNX Runtime, LiteRT and MNN on this machine.

    native.py --lab DIR [--sparrow PROGRAM] [--networks N ...] [--precision P ...] [--sparsity S ...] [--json]

The machine may be shared and its clock may wander, so nothing is measured alone: for each case all programs take turns,
round after round, a fraction of a second each. A figure is the median of the rounds' medians; a ratio is the median of
the rounds' ratios, in each of which both sides ran within a second of another. Below 1 Sparrow is faster. As root all
of it runs in the real-time class, ahead of other work. Elsewhere other work may take the processor away in the middle
of runs, and medians show it: then look at the best run of each side and at `best_ratio`.

Sparrow runs as a user runs it, `sparrow bench FILE --threads 1`; the peers run in this process through their Python
packages. A turn begins with a few runs that do not count, since the others have just been through the caches.
Sparse cases have two opponents more than dense ones have: the peer on the same share of zeros, and Sparrow itself on
the dense network, as peer "Sparrow dense": that ratio's inverse is the speedup.

A row: network, precision, sparsity, ours_ms, peer, peer_version, peer_ms, ratio, ours_best_ms, peer_best_ms,
best_ratio, rounds; what concerns Sparrow is null without --sparrow, and `note` says why a figure is missing.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
import typing

sys.dont_write_bytecode = True
import cases  # noqa: E402  (after the switch that keeps the checkout clean)

WARMUP = 3
LEAST_RUNS, MOST_RUNS = 5, 2000


class Turn(typing.NamedTuple):
    """What a program's turn in a round took, in ms for one inference."""
    median: float
    best: float


class Peer:
    """A network loaded into one peer: `run` does one inference."""

    def __init__(self, name, path, input_shape):
        self.name, self.path, self.input_shape = name, str(path), input_shape
        {"LiteRT": self.open_litert, "ONNX Runtime": self.open_onnxruntime, "MNN": self.open_mnn}[name]()

    def image(self, shape):
        import numpy
        return numpy.random.default_rng(1).random(shape, numpy.float32)

    def open_onnxruntime(self):
        import onnxruntime
        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: self.image(self.input_shape)}
        self.run = lambda: session.run(None, feed)

    def open_litert(self):
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter
        self.version = ai_edge_litert.__version__
        interpreter = Interpreter(self.path, num_threads=1)
        interpreter.allocate_tensors()
        entry = interpreter.get_input_details()[0]
        interpreter.set_tensor(entry["index"], self.image(entry["shape"]).astype(entry["dtype"]))
        self.run = interpreter.invoke

    def open_mnn(self):
        import MNN
        self.version = MNN.version()
        interpreter = MNN.Interpreter(self.path)
        session = interpreter.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
        host = MNN.Tensor(self.input_shape, MNN.Halide_Type_Float, self.image(self.input_shape),
                          MNN.Tensor_DimensionType_Caffe)
        interpreter.getSessionInput(session).copyFrom(host)
        self.keep = interpreter, session
        self.run = lambda: interpreter.runSession(session)

    def turn(self, runs):
        for _ in range(WARMUP):
            self.run()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.run()
            times.append((time.perf_counter() - start) * 1e3)
        return Turn(statistics.median(times), min(times))


class Sparrow:
    """A .spw file and the program that runs it."""

    def __init__(self, name, path, program):
        self.name, self.version = name, None
        self.command = [program, "bench", str(path), "--threads", "1", "--json"]

    def turn(self, runs):
        command = [*self.command, "--warmup", str(WARMUP), "--runs", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise cases.Unavailable(f"sparrow bench failed ({done.returncode}): {cases.ending(done.stderr)}")
        try:
            latency = json.loads(done.stdout)["latency_ms"]
            return Turn(float(latency["median"]), float(latency["min"]))
        except (ValueError, KeyError, TypeError):
            raise cases.Unavailable("sparrow bench --json gave no latency_ms.median and .min")


def contenders(args, case):
    """Everything that can run this case, loaded; and a note for each that cannot."""
    ready, notes = [], {}

    def attempt(name, load):
        try:
            if runner := load():
                runner.turn(1)
                ready.append(runner)
        except cases.Unavailable as problem:
            notes[name] = str(problem)
        except Exception as problem:  # whatever a peer throws, the others are still worth measuring
            notes[name] = f"{name} cannot run {case.label}: {cases.ending(str(problem))}"

    if args.sparrow:
        ours = lambda name, c: Sparrow(name, cases.sparrow_file(args.lab, args.sparrow, c), args.sparrow)
        attempt("Sparrow", lambda: ours("Sparrow", case))
        if case.sparsity:
            attempt("Sparrow dense", lambda: ours("Sparrow dense", case.dense))
    for peer in cases.PEERS["native"]:
        def load(peer=peer):
            path = cases.peer_file(args.lab, peer, case)
            return path and Peer(peer.name, path, case.network.input_shape)
        attempt(peer.name, load)
    return ready, notes


def take_turns(ready, rounds, turn_ms):
    """{name: a Turn per round}. The number of runs in a turn is chosen once, so that a turn lasts about turn_ms."""
    runs = {r.name: max(LEAST_RUNS, min(MOST_RUNS, round(turn_ms / r.turn(LEAST_RUNS).median))) for r in ready}
    turns = {r.name: [] for r in ready}
    for _ in range(rounds):
        for runner in ready:
            turns[runner.name].append(runner.turn(runs[runner.name]))
    return turns


def summary(turns):
    """(median of medians, best) in ms of one program's turns; (None, None) where it has none."""
    return (statistics.median(t.median for t in turns), min(t.best for t in turns)) if turns else (None, None)


def measure(args, case):
    ready, notes = contenders(args, case)
    turns = take_turns(ready, args.rounds, args.turn_ms)
    versions = {r.name: r.version for r in ready}
    ours = turns.pop("Sparrow", [])
    ours_ms, ours_best = summary(ours)
    rows = []
    for name in [*turns, *(n for n in notes if n != "Sparrow")]:
        theirs = turns.get(name, [])
        peer_ms, peer_best = summary(theirs)
        both = ours and theirs
        figures = {
            "ours_ms": ours_ms, "peer_ms": peer_ms,
            "ratio": statistics.median(a.median / b.median for a, b in zip(ours, theirs)) if both else None,
            "ours_best_ms": ours_best, "peer_best_ms": peer_best, "best_ratio": ours_best / peer_best if both else None,
        }
        rows.append({"network": case.network.name, "precision": case.precision, "sparsity": case.sparsity,
                     "peer": name, "peer_version": versions.get(name), "rounds": args.rounds,
                     **{key: value and round(value, 3) for key, value in figures.items()},
                     "note": notes.get(name) or notes.get("Sparrow")})
    return rows


COLUMNS = (("network", "network", ""), ("precision", "precision", ""), ("peer", "peer", ""),
           ("sparsity", "sparsity", ".0%"), ("ours_ms", "ours ms", ".2f"), ("peer_ms", "peer ms", ".2f"),
           ("ratio", "ours/peer", ".3f"), ("ours_best_ms", "best ours", ".2f"), ("peer_best_ms", "best peer", ".2f"),
           ("best_ratio", "ratio", ".3f"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each program in a case (default: %(default)s)")
    parser.add_argument("--turn-ms", type=float, default=250, help="length of a turn (default: %(default)s)")
    args = parser.parse_args()
    cases.use_lab_python(args.lab)
    out, rows = cases.stdout_for_rows(), []
    chosen = cases.select("native", args)
    for case in chosen:  # whatever is to be converted is converted now, not between measurements
        cases.described(args.lab, args.sparrow, "native", case)
    cases.run_before_others()
    for case in chosen:
        cases.progress(f"measuring {case.label}")
        rows += measure(args, case)
    cases.print_rows(rows, args.json, COLUMNS, out)


if __name__ == "__main__":
    main()
