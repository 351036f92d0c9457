"""`python -m darts_ray.cli` is the `darts-ray` command."""

from darts_ray.cli import main

main()
