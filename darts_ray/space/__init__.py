"""What an architecture is, as data: search spaces, genotypes, the published zoo, derivation."""

import darts_ray.space.robustdarts  # noqa: F401 - registers its spaces
from darts_ray.space.derivation import GenotypeBuilder, derive, derive_strengths, softmax_alphas
from darts_ray.space.edges import Edge, Node
from darts_ray.space.first_format import ConvGenotype, RecurrentGenotype, fingerprint
from darts_ray.space.genotype import Genotype
from darts_ray.space.published_cells import zoo
from darts_ray.space.reading.arch import arch_string
from darts_ray.space.spaces import SearchSpace, resolve_space, spaces
from darts_ray.space.topology import CellSpace, EdgeSpace

__all__ = [
    "CellSpace",
    "ConvGenotype",
    "Edge",
    "EdgeSpace",
    "Genotype",
    "GenotypeBuilder",
    "Node",
    "RecurrentGenotype",
    "SearchSpace",
    "arch_string",
    "derive",
    "derive_strengths",
    "fingerprint",
    "resolve_space",
    "softmax_alphas",
    "spaces",
    "zoo",
]
