r"""Run the search stage of a study on the cluster this script is submitted to.

ray job submit --working-dir . -- \
    python pipelines/search.py configs/cifar10/search.yaml --set output=/mnt/shared/runs

The job starts in a folder that Ray deletes, so the output is named: a URI or a shared folder.
"""

import sys

from darts_ray.cli import run

if __name__ == "__main__":
    sys.exit(run(["search", *sys.argv[1:]]))
