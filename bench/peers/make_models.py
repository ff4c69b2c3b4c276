"""Makes the files that the peers and Sparrow are timed on; `setup` calls it.

    make_models.py --lab DIR onnx             in the lab's `python` environment
    make_models.py --lab DIR tflite           in the lab's `tensorflow` environment
    make_models.py --lab DIR missing-tflite   prints what `tflite` would make
    make_models.py --lab DIR mnn              in the lab's `python` environment

Time does not depend on the values of dense weights, so the weights are random: no figure here says anything about
accuracy. What a pruned file holds is what a user gets from an ordinary pruning library: the smallest weights of every
1x1 convolution set to zero, one by one. int8 ONNX files are QDQ with unsigned activations and one scale per output
channel, the form ONNX Runtime recommends for x86; int8 TFLite files come from TensorFlow's own converter.

MobileNet-v2 and esrgan-slim-x2 are given as ONNX files (DIR/models/source). TFLite has no importer for those, so for
LiteRT the same architectures are built in Keras: the same layers and shapes, hence the same cost.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.dont_write_bytecode = True
from cases import NETWORKS, file_stem  # noqa: E402  (after the switch that keeps the checkout clean)

# MobileNet-v1 (arXiv:1704.04861, table 1): output channels and stride of each depthwise-separable block.
MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1),
                (512, 1), (1024, 2), (1024, 1))
SEED = 20


def zero_smallest(weights, share):
    """`weights` with the given share of them, the smallest in magnitude, set to zero."""
    if not share:
        return weights
    return np.where(np.abs(weights) < np.quantile(np.abs(weights), share), 0, weights).astype(weights.dtype)


def calibration_inputs(shape, scale):
    rng = np.random.default_rng(SEED)
    return [np.abs(rng.normal(0, scale, shape)).astype(np.float32) if scale > 1 else
            rng.normal(0, scale, shape).astype(np.float32) for _ in range(4)]


def input_scale(network):
    return 80.0 if network == "esrgan-slim-x2" else 1.0  # that one takes grey levels 0..255


class Lab:
    """The models folder: files appear in it whole, and only where they are missing or older than their source."""

    def __init__(self, folder):
        self.models = Path(folder).resolve() / "models"
        self.models.mkdir(parents=True, exist_ok=True)

    def variants(self):
        """(network, sparsity, int8) of every file the cases need."""
        return [(n.name, s, int8) for n in NETWORKS.values() for s in n.sparsities for int8 in (False, True)]

    def path(self, network, sparsity, int8, suffix):
        return self.models / (file_stem(network, sparsity, int8) + suffix)

    def stale(self, path, *sources):
        return not path.exists() or any(s.stat().st_mtime > path.stat().st_mtime for s in sources)

    def write(self, path, make):
        """Calls make(temporary path), then moves the file to its place."""
        print(f"peers: making {path.name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=self.models) as scratch:
            unfinished = Path(scratch, path.name)
            make(unfinished)
            unfinished.rename(path)


# ---- ONNX ----------------------------------------------------------------------------------------------------------

class OnnxGraph:
    """A chain of layers, built front to back; each method adds one to the end."""

    def __init__(self, channels, sparsity):
        self.rng = np.random.default_rng(SEED)
        self.channels, self.sparsity, self.last = channels, sparsity, "input"
        self.nodes, self.constants = [], []

    def constant(self, name, values):
        from onnx import numpy_helper
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, op, *constants, **attributes):
        from onnx import helper
        out = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.last, *constants], [out], **attributes))
        self.last = out

    def conv_relu6(self, out_channels, kernel, stride, groups=1):
        name, fan_in = f"layer{len(self.nodes)}", self.channels // groups * kernel * kernel
        weights = self.rng.normal(0, (2 / fan_in) ** 0.5, (out_channels, self.channels // groups, kernel, kernel))
        if kernel == 1:
            weights = zero_smallest(weights, self.sparsity)
        before, after = ((0, 1) if stride == 2 else (1, 1)) if kernel == 3 else (0, 0)  # TensorFlow's "same"
        self.add("Conv", self.constant(f"{name}.weight", weights),
                 self.constant(f"{name}.bias", self.rng.normal(0, 0.1, out_channels)),
                 kernel_shape=[kernel] * 2, strides=[stride] * 2, group=groups, pads=[before, before, after, after])
        self.channels = out_channels
        self.add("Clip", self.constant(f"{name}.low", 0.0), self.constant(f"{name}.high", 6.0))

    def classifier(self, classes):
        self.add("GlobalAveragePool")
        self.add("Flatten")
        self.add("Gemm", self.constant("classifier.weight", self.rng.normal(0, 0.03, (classes, self.channels))),
                 self.constant("classifier.bias", np.zeros(classes)), transB=1)

    def save(self, path, input_shape, output_shape):
        import onnx
        from onnx import helper
        self.nodes[-1].output[0] = "output"
        value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, path.stem, [value("input", input_shape)], [value("output", output_shape)],
                                  self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def save_mobilenet_v1(path, sparsity):
    graph = OnnxGraph(3, sparsity)
    graph.conv_relu6(32, 3, 2)
    for out_channels, stride in MOBILENET_V1:
        graph.conv_relu6(graph.channels, 3, stride, groups=graph.channels)
        graph.conv_relu6(out_channels, 1, 1)
    graph.classifier(1000)
    graph.save(path, (1, 3, 224, 224), (1, 1000))


def save_with_fixed_input(path, source, shape):
    """The network of `source` with every free dimension of its input fixed, so that no program has to guess."""
    import onnx
    model = onnx.load(source)
    names = {constant.name for constant in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in names]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != len(shape):
        sys.exit(f"{source}: expected one input of {len(shape)} dimensions")
    for dim, size in zip(inputs[0].type.tensor_type.shape.dim, shape):
        dim.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # inferred again from the input
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)


def save_quantized_onnx(path, source, inputs):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Inputs(CalibrationDataReader):
        def __init__(self):
            self.left = list(inputs)

        def get_next(self):
            return self.left.pop() if self.left else None

    folded = path.with_suffix(".folded.onnx")
    quant_pre_process(str(source), str(folded))  # folds batch normalization into the convolutions
    quantize_static(str(folded), str(path), Inputs(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def make_onnx(lab):
    import onnx
    for name, sparsity, int8 in lab.variants():
        path, shape = lab.path(name, sparsity, int8, ".onnx"), NETWORKS[name].input_shape
        floats, source = lab.path(name, sparsity, False, ".onnx"), lab.models / "source" / f"{name}.onnx"
        calibration = lab.models / f"{name}.calibration.npz"
        if int8:
            if lab.stale(calibration, lab.path(name, 0.0, False, ".onnx")):
                graph_input = onnx.load(floats).graph.input[0].name
                batch = np.concatenate(calibration_inputs(shape, input_scale(name)))
                lab.write(calibration, lambda p: np.savez(p, **{graph_input: batch}))
            if lab.stale(path, floats):
                (graph_input, batch), = np.load(calibration).items()
                lab.write(path, lambda p: save_quantized_onnx(p, floats, [{graph_input: x[None]} for x in batch]))
        elif name == "mobilenet-v1":
            if lab.stale(path):
                lab.write(path, lambda p: save_mobilenet_v1(p, sparsity))
        elif lab.stale(path, source):
            lab.write(path, lambda p: save_with_fixed_input(p, source, shape))


# ---- TFLite --------------------------------------------------------------------------------------------------------

def keras_esrgan_slim(keras, image):
    """esrgan-slim-x2's graph, layer for layer: two residual dense blocks of one layer each, 64 channels; then a 5x5
    and two 3x3 convolutions, twofold nearest upsampling and a last 3x3."""
    conv = lambda x, channels, kernel, activation=None: keras.layers.Conv2D(channels, kernel, padding="same",
                                                                             activation=activation)(x)
    join, add = keras.layers.Concatenate(), keras.layers.Add
    first = conv(image, 64, 3)
    x, blocks = conv(first, 64, 3), []
    for _ in range(2):
        grown = keras.layers.Concatenate()([x, conv(x, 4, 3, "relu")])
        x = add()([conv(grown, 64, 1), x])
        blocks.append(x)
    x = add()([conv(conv(join(blocks), 64, 1), 64, 3), first])
    x = conv(conv(conv(x, 64, 5, "relu"), 32, 3, "relu"), 12, 3)
    return conv(keras.layers.UpSampling2D(2, interpolation="nearest")(x), 3, 3)


def keras_network(name, sparsity):
    import tensorflow as tf
    keras = tf.keras
    keras.utils.set_random_seed(SEED)
    batch, channels, height, width = NETWORKS[name].input_shape
    image = keras.Input(batch_shape=(batch, height, width, channels))
    if name == "esrgan-slim-x2":
        return keras.Model(image, keras_esrgan_slim(keras, image))
    application = {"mobilenet-v1": keras.applications.MobileNet, "mobilenet-v2": keras.applications.MobileNetV2}[name]
    model = application(weights=None, input_tensor=image, classifier_activation=None)
    for layer in model.layers:
        if sparsity and isinstance(layer, keras.layers.Conv2D) and layer.name.startswith("conv_pw_"):
            layer.set_weights([zero_smallest(layer.get_weights()[0], sparsity), *layer.get_weights()[1:]])
    return model


def save_tflite(path, name, sparsity, int8):
    import tensorflow as tf
    converter = tf.lite.TFLiteConverter.from_keras_model(keras_network(name, sparsity))
    wanted = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparsity else []
    if int8:
        wanted.append(tf.lite.Optimize.DEFAULT)
        batch, channels, height, width = NETWORKS[name].input_shape
        images = calibration_inputs((batch, height, width, channels), input_scale(name))
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.optimizations = wanted
    path.write_bytes(converter.convert())


def missing_tflite(lab):
    return [v for v in lab.variants() if lab.stale(lab.path(*v, ".tflite"))]


def make_tflite(lab):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for variant in missing_tflite(lab):
        lab.write(lab.path(*variant, ".tflite"), lambda p: save_tflite(p, *variant))


# ---- MNN -----------------------------------------------------------------------------------------------------------

def save_mnn(path, source):
    """mnnconvert answers 0 or not whatever happened, so what counts is the file."""
    command = [Path(sys.prefix, "bin", "mnnconvert"), "-f", "ONNX", "--modelFile", source, "--MNNModel", path]
    done = subprocess.run([*command, "--bizCode", "sparrow"], capture_output=True, text=True)
    if not path.exists():
        sys.exit(f"mnnconvert made no file from {source}: {done.stdout[-400:]}{done.stderr[-400:]}")


def make_mnn(lab):
    for name, sparsity, int8 in lab.variants():
        source, path = lab.path(name, sparsity, False, ".onnx"), lab.path(name, sparsity, False, ".mnn")
        if not int8 and lab.stale(path, source):
            lab.write(path, lambda p: save_mnn(p, source))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", required=True)
    parser.add_argument("what", choices=["onnx", "tflite", "missing-tflite", "mnn"])
    args = parser.parse_args()
    lab = Lab(args.lab)
    if args.what == "missing-tflite":
        print("\n".join(lab.path(*v, ".tflite").name for v in missing_tflite(lab)))
    else:
        {"onnx": make_onnx, "tflite": make_tflite, "mnn": make_mnn}[args.what](lab)


if __name__ == "__main__":
    main()
