#!/usr/bin/env python3
"""What is measured: the networks, in which precisions and sparsities, and which file each program runs.

`native.py`, `arm` and `web/run.mjs` all take their cases from here, so that a row means the same network everywhere.
A case names a file per peer, and the Sparrow files of the case itself and of its dense twin, which are converted here
from the same ONNX files, once for each version of the sparrow program and of the ONNX file.

    cases.py --lab DIR --where native|web|arm [--sparrow PROGRAM] [--networks N ...] [--precision P ...]
             [--sparsity S ...] [--pattern auto|16|8|4]

prints them as JSON; that is how `web/run.mjs` gets them.

In the lab:

    models/NETWORK[-sNN][-int8].onnx|.tflite|.mnn    NN: per cent of the 1x1 convolutions' weights that are zero
    models/NETWORK.calibration.npz                   inputs to quantize with, one array per graph input
    sparrow/NETWORK-PRECISION[-sNN[-bN]].spw         bN: the pattern, where it is asked for
"""
import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Network:
    name: str
    input_shape: tuple  # NCHW; TFLite's file has the same in NHWC
    sparsities: tuple = (0.0,)


@dataclasses.dataclass(frozen=True)
class Case:
    network: Network
    precision: str
    sparsity: float
    pattern: str = "auto"  # what Sparrow drops: `sparrow convert --pattern`

    @property
    def label(self):
        return f"{self.network.name} {self.precision}" + (f" {self.sparsity:.0%} sparse" if self.sparsity else "")

    @property
    def dense(self):
        return dataclasses.replace(self, sparsity=0.0)


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    suffix: str
    precisions: tuple


NETWORKS = {n.name: n for n in (
    Network("mobilenet-v1", (1, 3, 224, 224), (0.0, 0.3, 0.5, 0.8)),
    Network("mobilenet-v2", (1, 3, 224, 224)),
    Network("esrgan-slim-x2", (1, 3, 128, 128)),
)}

# MNN's f16 is the f32 file run with precision "low": on Arm it computes in half precision, elsewhere it does not.
PEERS = {
    "native": (Peer("LiteRT", ".tflite", ("f32", "int8")), Peer("ONNX Runtime", ".onnx", ("f32", "int8")),
               Peer("MNN", ".mnn", ("f32",))),
    "web": (Peer("LiteRT.js", ".tflite", ("f32", "int8")), Peer("onnxruntime-web", ".onnx", ("f32", "int8"))),
    "arm": (Peer("LiteRT", ".tflite", ("f32", "int8")), Peer("MNN", ".mnn", ("f32", "f16")),
            Peer("ONNX Runtime", ".onnx", ("f32", "int8"))),
}
PRECISIONS = ("f32", "f16", "int8")
SPARSITIES = sorted({s for n in NETWORKS.values() for s in n.sparsities})


class Unavailable(Exception):
    """A program or a file of this case cannot be run here; the message says which, and why."""


def file_stem(network, sparsity, int8):
    return network + (f"-s{sparsity:.0%}".rstrip("%") if sparsity else "") + ("-int8" if int8 else "")


def peer_file(lab, peer, case):
    """The file `peer` runs for `case`; None where it has no such precision."""
    if case.precision not in peer.precisions:
        return None
    path = Path(lab, "models", file_stem(case.network.name, case.sparsity, case.precision == "int8") + peer.suffix)
    if not path.exists():
        raise Unavailable(f"{path} is missing: run bench/peers/setup")
    return path


def sparrow_file(lab, sparrow, case):
    """Converts the case's ONNX file with the program `sparrow` unless that is done; the .spw file."""
    models = Path(lab, "models")
    source, calibration = models / f"{case.network.name}.onnx", models / f"{case.network.name}.calibration.npz"
    if not source.exists():
        raise Unavailable(f"{source} is missing: run bench/peers/setup")
    blocks = f"-b{case.pattern}" if case.sparsity and case.pattern != "auto" else ""
    stem = file_stem(f"{case.network.name}-{case.precision}", case.sparsity, False)
    target = Path(lab, "sparrow", stem + blocks + ".spw")
    made_from = [source, Path(sparrow)]
    command = [sparrow, "convert", source, "-o", target, "--precision", case.precision]
    if case.sparsity:
        command += ["--sparsity", str(case.sparsity)]
        command += ["--pattern", case.pattern] if blocks else []
    if case.precision == "int8":
        command += ["--calibrate", calibration]
        made_from.append(calibration)
    try:
        if target.exists() and target.stat().st_mtime >= max(p.stat().st_mtime for p in made_from):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        progress(f"converting {target.name}")
        done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Unavailable(f"cannot run sparrow: {error}")
    if done.returncode:
        raise Unavailable(f"sparrow convert failed ({done.returncode}): {ending(done.stderr)}")
    return target


def select(where, args):
    """The cases of one place that the arguments ask for, dense before sparse."""
    offered = {p for peer in PEERS[where] for p in peer.precisions}
    return [Case(NETWORKS[n], p, s, args.pattern)
            for n in args.networks for p in PRECISIONS if p in args.precision and p in offered
            for s in NETWORKS[n].sparsities if s in args.sparsity]


def add_arguments(parser, networks=tuple(NETWORKS)):
    """The options that every measuring script has."""
    here = Path(__file__).resolve().parent
    parser.add_argument("--lab", default=os.environ.get("SPARROW_LAB") or here.parents[1] / "target" / "peers",
                        type=lambda p: Path(p).resolve(), help="what bench/peers/setup filled (default: %(default)s)")
    parser.add_argument("--sparrow", help="the sparrow program; without it only the peers are measured")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(networks), metavar="NETWORK",
                        help=f"of {', '.join(NETWORKS)} (default: {', '.join(networks)})")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), metavar="PRECISION",
                        help=f"of {', '.join(PRECISIONS)} (default: all)")
    parser.add_argument("--sparsity", nargs="+", type=float, choices=SPARSITIES, default=SPARSITIES, metavar="SHARE",
                        help=f"of {', '.join(map(str, SPARSITIES))} (default: all that the network has)")
    parser.add_argument("--pattern", choices=("auto", "16", "8", "4"), default="auto",
                        help="channels that Sparrow's sparse networks drop together (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="a JSON list of rows on stdout instead of a table")


def use_lab_python(lab):
    """Goes on in the lab's Python environment, where the peers are installed."""
    python = lab / "python" / "bin" / "python"
    if not python.exists():
        sys.exit(f"{python} is missing: run bench/peers/setup")
    if Path(sys.prefix).resolve() != (lab / "python").resolve():
        os.execv(python, [str(python), *sys.argv])


def stdout_for_rows():
    """The stream for rows. From here on whatever a library prints to standard output goes to standard error."""
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return rows


def progress(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def ending(text):
    """The last lines of a program's error output, as one."""
    return "; ".join(line.strip() for line in text.strip().splitlines()[-3:]) or "no message"


def run_before_others():
    """Measures ahead of ordinary programs from here on (the real-time class, which child processes inherit): other work
    then hardly shows in the figures. Without the right to it everything is measured all the same."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):
        progress("no right to the real-time class (root has it): other work on this machine will disturb the figures")


def print_rows(rows, as_json, columns, out):
    """`rows` as JSON, or as a table of `columns`: (key, heading, format) triples; an absent value prints as '-'."""
    if as_json:
        print(json.dumps(rows, indent=1), file=out)
        return
    cells = [[heading for _, heading, _ in columns]]
    cells += [["-" if row.get(key) is None else format(row[key], form) for key, _, form in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.ljust(width) if i < 3 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))), file=out)
    for note in dict.fromkeys(row["note"] for row in rows if row.get("note")):
        print(f"note: {note}", file=out)


def described(lab, sparrow, where, case):
    """A case as plain data: {network, precision, sparsity, input_shape, runs: [{name, file} or {name, note}]}."""
    def one(name, find):
        try:
            path = find()
            return path and {"name": name, "file": str(path)}
        except Unavailable as problem:
            return {"name": name, "note": str(problem)}

    runs = []
    if sparrow:
        runs.append(one("Sparrow", lambda: sparrow_file(lab, sparrow, case)))
        if case.sparsity:
            runs.append(one("Sparrow dense", lambda: sparrow_file(lab, sparrow, case.dense)))
    runs += [one(peer.name, lambda: peer_file(lab, peer, case)) for peer in PEERS[where]]
    return {"network": case.network.name, "precision": case.precision, "sparsity": case.sparsity, "label": case.label,
            "input_shape": case.network.input_shape, "runs": [run for run in runs if run]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--where", choices=PEERS, required=True)
    args = parser.parse_args()
    cases = select(args.where, args)
    print(json.dumps([described(args.lab, args.sparrow, args.where, case) for case in cases]))


if __name__ == "__main__":
    main()
