r"""Serve an exported image network over HTTP on the Ray cluster this script runs in.

python pipelines/serve.py runs/quickstart/best.onnx --port 8000
curl -X POST localhost:8000/predict -H 'content-type: application/json' \
        -d "{\"image\": \"$(base64 -w0 picture.png)\"}"
"""

import argparse
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve an exported image network.")
    parser.add_argument("model", help="an ONNX file, or the folder of its study")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each replica")
    words = parser.parse_args()
    try:
        from ray import serve
    except ImportError as error:
        sys.exit(f"Error: Ray Serve is missing ({error}); pip install 'darts_ray[serve]'.")
    from darts_ray.errors import DartsError
    from darts_ray.tune.serving import application

    try:
        app = application(words.model, replicas=words.replicas, num_threads=words.threads)
    except DartsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    serve.start(http_options={"host": words.host, "port": words.port})
    serve.run(app, blocking=True)
