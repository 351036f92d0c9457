"""Write and verify a study's ONNX file on the cluster this script is submitted to.

ray job submit --working-dir . -- python pipelines/export.py s3://bucket/runs/cifar10-study
"""

import sys

from darts_ray.cli import run

if __name__ == "__main__":
    sys.exit(run(["export", *sys.argv[1:]]))
