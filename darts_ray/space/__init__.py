"""What an architecture is, as data: search spaces, genotypes, the published zoo, derivation."""

from darts_ray.space.derivation import derive, softmax_alphas
from darts_ray.space.genotype import ConvGenotype, Edge, Genotype, RecurrentGenotype
from darts_ray.space.published_cells import zoo
from darts_ray.space.spaces import SearchSpace, resolve_space, spaces

__all__ = [
    "ConvGenotype",
    "Edge",
    "Genotype",
    "RecurrentGenotype",
    "SearchSpace",
    "derive",
    "resolve_space",
    "softmax_alphas",
    "spaces",
    "zoo",
]
