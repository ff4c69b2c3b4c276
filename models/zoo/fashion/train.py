#!/usr/bin/env python3
"""Train the network that `sparrow demo` carries, and write it with its pictures.

A MobileNet-v1 (3x3 convolution, then depthwise-separable blocks, each convolution followed by batch norm and ReLU6,
global average, one fully connected layer; Howard et al., 2017) for the 28x28 grey pictures of Fashion-MNIST.
Every channel count but the input's is a multiple of 32, so no block of output channels is padded.

    apt-get install dataset-fashion-mnist
    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1
    venv/bin/python train.py                # 27 min of CPU time (AMD EPYC, Python 3.11); 92.83 % of the test pictures
    venv/bin/python train.py --evaluate     # only measures the committed fashion.onnx

One thread and a fixed seed: the same versions on the same kind of CPU give the same network.
"""

import argparse
import gzip
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = Path("/usr/share/datasets/fashion-mnist")
SEED = 20
EPOCHS = 12
BATCH = 128
PEAK_RATE = 0.005
WEIGHT_DECAY = 0.03
SMOOTHING = 0.05
# Depthwise-separable blocks after the stem: (output channels, stride of the depthwise convolution).
STEM = 32
BLOCKS = [(64, 2), (128, 1), (128, 2), (128, 1), (256, 1), (256, 2)]


def images(data: Path, part: str) -> np.ndarray:
    """IDX file of uint8 pictures, [n, 28, 28]."""
    with gzip.open(data / f"{part}-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)


def labels(data: Path, part: str) -> np.ndarray:
    """IDX file of uint8 class numbers, [n]."""
    with gzip.open(data / f"{part}-labels-idx1-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=8)


def network():
    """The layers' names become the names of the ONNX nodes."""
    from torch import nn

    def unit(inputs, outputs, kernel, stride, groups):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs), relu6=nn.ReLU6(inplace=True)))

    layers, width = OrderedDict(stem=unit(1, STEM, 3, 1, 1)), STEM
    for number, (outputs, stride) in enumerate(BLOCKS, 1):
        depthwise, pointwise = unit(width, width, 3, stride, width), unit(width, outputs, 1, 1, 1)
        layers[f"block{number}"] = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
        width = outputs
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(width, 10))
    return nn.Sequential(layers)


def augmented(pictures, generator):
    """Half of the pictures mirrored, each batch shifted by up to two pixels in every direction."""
    import torch
    import torch.nn.functional as F

    mirror = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    pictures = torch.where(mirror, pictures.flip(3), pictures)
    y, x = torch.randint(0, 5, (2,), generator=generator).tolist()
    return F.pad(pictures, (2, 2, 2, 2))[:, :, y : y + 28, x : x + 28]


def accuracy(net, pictures, truth) -> float:
    import torch

    net.eval()
    with torch.no_grad():
        right = sum((net(p).argmax(1) == t).sum().item() for p, t in zip(pictures.split(500), truth.split(500)))
    net.train()
    return right / len(truth)


def train(data: Path):
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)

    def tensors(part):
        pictures = torch.from_numpy(images(data, part).astype(np.float32) / 255)[:, None]
        return pictures, torch.from_numpy(labels(data, part).astype(np.int64))

    pictures, truth = tensors("train")
    test_pictures, test_truth = tensors("t10k")
    net = network().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in net.parameters())} parameters")

    steps = EPOCHS * (len(truth) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.2)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    start = time.process_time()
    for epoch in range(EPOCHS):
        total = 0.0
        order = torch.randperm(len(truth), generator=generator)
        for batch in order[: len(truth) // BATCH * BATCH].view(-1, BATCH):
            loss = loss_of(net(augmented(pictures[batch], generator)), truth[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        # Printed to be watched; nothing is chosen by it: the last epoch's network is what is exported.
        print(
            f"epoch {epoch + 1:2}/{EPOCHS}  loss {total / (len(truth) // BATCH):.4f}"
            f"  test {accuracy(net, test_pictures, test_truth):.4f}  {time.process_time() - start:.0f} s of CPU",
            flush=True,
        )
    return net


def export(net, path: Path):
    """ONNX opset 17; the exporter folds batch norm into the convolutions."""
    import torch

    net.eval()
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
    )


def write_pictures(data: Path):
    """The pictures the demo shows and measures with, as .npy that can be embedded as they are."""
    np.save(HERE / "test_images.npy", images(data, "t10k")[:1000])
    np.save(HERE / "test_labels.npy", labels(data, "t10k")[:1000])
    np.save(HERE / "calibration_images.npy", images(data, "train")[:128])


def evaluate(data: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(HERE / "fashion.onnx", providers=["CPUExecutionProvider"])
    pictures = images(data, "t10k").astype(np.float32)[:, None, None] / 255
    answers = np.array([session.run(None, {"image": picture})[0].argmax() for picture in pictures])
    right = answers == labels(data, "t10k")
    print(
        f"ONNX Runtime {onnxruntime.__version__}: {right.sum()} of 10000 right, {right[:1000].sum()} of the first 1000"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the four IDX files (default: %(default)s)")
    parser.add_argument("--evaluate", action="store_true", help="do not train, measure the committed fashion.onnx")
    arguments = parser.parse_args()
    if not (arguments.data / "train-images-idx3-ubyte.gz").is_file():
        parser.error(f"no Fashion-MNIST in {arguments.data}: apt-get install dataset-fashion-mnist, or pass --data")
    if not arguments.evaluate:
        export(train(arguments.data), HERE / "fashion.onnx")
        write_pictures(arguments.data)
    evaluate(arguments.data)


if __name__ == "__main__":
    main()
