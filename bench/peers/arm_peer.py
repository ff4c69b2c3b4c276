"""Runs a network N times in one peer; `arm` starts this in the emulated arm64 Python of the lab.

    arm_peer.py LiteRT|MNN|"ONNX Runtime" MODEL N f32|f16|int8 SHAPE      SHAPE: 1,3,224,224

One thread. MNN computes f16 where its precision is "low"; the other two compute what the file says.
"""
import sys

import numpy

name, model, repetitions, precision, shape = sys.argv[1:]
shape = tuple(map(int, shape.split(",")))


def litert():
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    interpreter.set_tensor(entry["index"], numpy.full(entry["shape"], 1, entry["dtype"]))
    return interpreter.invoke


def onnxruntime():
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: numpy.ones(shape, numpy.float32)}
    return lambda: session.run(None, feed)


def mnn():
    import MNN
    interpreter = MNN.Interpreter(model)
    session = interpreter.createSession({"backend": "CPU", "numThread": 1,
                                         "precision": "low" if precision == "f16" else "high"})
    image = MNN.Tensor(shape, MNN.Halide_Type_Float, numpy.ones(shape, numpy.float32), MNN.Tensor_DimensionType_Caffe)
    interpreter.getSessionInput(session).copyFrom(image)
    return lambda: interpreter.runSession(session)


run = {"LiteRT": litert, "ONNX Runtime": onnxruntime, "MNN": mnn}[name]()
for _ in range(int(repetitions)):
    run()
