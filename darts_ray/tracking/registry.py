"""An ONNX file in MLflow's model registry, under the alias `champion`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALIAS = "champion"

# TensorProto.DataType of the inputs and outputs that darts_ray.export writes.
_DTYPES = {1: "float32", 7: "int64"}


def register(
    client: Any,
    proto: Any,
    *,
    name: str,
    experiment_id: str,
    run_id: str,
    digest: str,
    metadata: Mapping[str, Any],
) -> str:
    """Log the model, register it and point the alias at it; the same file is not logged twice.

    `mlflow.onnx.log_model` works on the process-wide tracking URI and active run. Its steps are
    done here with the client instead, so that nothing of the user's is touched.

    Args:
        client: an `MlflowClient`.
        proto: the ONNX model; saving does not change it (no external data).
        name: in the registry.
        experiment_id: of the study's run.
        run_id: of the study's run.
        digest: of the file's content, to recognise it.
        metadata: put into the model's MLmodel file.

    Returns:
        The version.
    """
    tags = {"darts.digest": digest, "darts.run_id": run_id}
    known = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if tags.items() <= version.tags.items()
    ]
    if known:
        version = str(max(int(version.version) for version in known))
    else:
        model = _log_model(client, proto, name, experiment_id, run_id, tags, metadata)
        _ensure_registered_model(client, name)
        version = str(
            client.create_model_version(
                name,
                source=_source(client.tracking_uri, model),
                run_id=run_id,
                tags=tags,
                model_id=model.model_id,
            ).version
        )
    client.set_registered_model_alias(name, ALIAS, version)
    return version


def _log_model(
    client: Any,
    proto: Any,
    name: str,
    experiment_id: str,
    run_id: str,
    tags: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> Any:
    # mlflow warns of a type hint of its own when this module is imported.
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
    import mlflow.onnx
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    model = client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags=dict(tags)
    )
    client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=0)])
    description = Model(
        artifact_path=model.artifact_location,
        run_id=run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        mlflow.onnx.save_model(
            proto,
            str(folder),
            mlflow_model=description,
            signature=_signature(proto),
            metadata=dict(metadata),
            # Given, because mlflow would start a process that loads the model to find them out.
            pip_requirements=mlflow.onnx.get_default_pip_requirements(),
            save_as_external_data=False,
        )
        client.log_model_artifacts(model.model_id, str(folder))
    return client.finalize_logged_model(model.model_id, "READY")


def _source(uri: str, model: Any) -> str:
    """Return where the registry finds the model.

    A server knows its own models by id. A store within this process would look for the id at the
    process-wide tracking URI instead of its own, and make a database there; so it gets the path.
    """
    is_server = uri.startswith(("http://", "https://", "databricks"))
    return f"models:/{model.model_id}" if is_server else str(model.artifact_location)


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _signature(proto: Any) -> Any:
    """Return names, types and shapes of the graph's inputs and outputs (-1: dynamic)."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(values: Any) -> Any:
        return Schema(
            [
                TensorSpec(
                    np.dtype(_DTYPES[value.type.tensor_type.elem_type]),
                    tuple(
                        axis.dim_value if axis.HasField("dim_value") else -1
                        for axis in value.type.tensor_type.shape.dim
                    ),
                    value.name,
                )
                for value in values
            ]
        )

    return ModelSignature(inputs=schema(proto.graph.input), outputs=schema(proto.graph.output))
