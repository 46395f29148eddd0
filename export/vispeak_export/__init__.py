"""The encoders as files of their own: ONNX graphs, TensorRT engines, and the account of how well they do.

Runs offline, by the command `vispeak-export`; what it writes is read by `vispeak_node.runtime.backends`.
"""
