"""Uses an exported file as anyone can: onnxruntime, numpy and Pillow, but no torch and no onnx."""
