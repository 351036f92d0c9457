"""Published ground truth: genotype -> accuracy, without training."""

from darts_ray.benchmarks import nasbench201

__all__ = ["nasbench201"]
