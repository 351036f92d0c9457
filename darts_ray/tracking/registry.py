"""An ONNX file in MLflow's model registry, with an alias for the best."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from darts_ray.tracking.registration import Registration

# TensorProto.DataType of the inputs and outputs that darts_ray.export writes.
_DTYPES = {1: "float32", 2: "uint8", 7: "int64"}


def register(
    client: Any,
    proto: Any,
    *,
    registration: Registration,
    experiment_id: str,
    run_id: str,
    digest: str,
    metadata: Mapping[str, Any],
) -> tuple[str, str]:
    """Log the model, register it and maybe point the alias at it; a file is not logged twice.

    `mlflow.onnx.log_model` works on the process-wide tracking URI and active run. Its steps are
    done here with the client instead, so that nothing of the user's is touched.

    Args:
        client: an `MlflowClient`.
        proto: the ONNX model; saving does not change it (no external data).
        registration: name, score and rule.
        experiment_id: of the study's run.
        run_id: of the study's run.
        digest: of the file's content, to recognise it.
        metadata: put into the model's MLmodel file.

    Returns:
        The version, and why it is not the champion (empty: it is).
    """
    name = registration.name
    tags = {"darts.digest": digest, "darts.run_id": run_id}
    known = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if tags.items() <= version.tags.items()
    ]
    if known:
        version = str(max(int(version.version) for version in known))
    else:
        model = _log_model(client, proto, registration, experiment_id, run_id, tags, metadata)
        _ensure_registered_model(client, name)
        version = str(
            client.create_model_version(
                name,
                source=_source(client.tracking_uri, model),
                run_id=run_id,
                tags={**tags, **registration.tags},
                model_id=model.model_id,
                description=registration.description or None,
            ).version
        )
    champion = _champion(client, registration)
    if champion is not None and str(champion.version) == version:
        return version, ""
    objection = registration.objection(champion, run_id)
    if not objection:
        client.set_registered_model_alias(name, registration.alias, version)
    return version, objection


def _champion(client: Any, registration: Registration) -> Any:
    """Return the version that has the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(registration.name, registration.alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _log_model(
    client: Any,
    proto: Any,
    registration: Registration,
    experiment_id: str,
    run_id: str,
    tags: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> Any:
    # mlflow warns of a type hint of its own when this module is imported.
    warnings.filterwarnings(
        "ignore", "Operation with range is deprecated"
    )  # its own use of pandas
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
    import mlflow.onnx
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    model = client.create_logged_model(
        experiment_id, name=registration.name, source_run_id=run_id, tags=dict(tags)
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
            signature=_signature(proto, registration),
            input_example=_input_example(registration),
            metadata=dict(metadata),
            # Given, because mlflow would start a process that loads the model to find them out.
            pip_requirements=_requirements(registration),
            save_as_external_data=False,
        )
        if registration.loader:
            _serve_by(registration, description, folder)
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


def _requirements(registration: Registration) -> list[str]:
    import mlflow.onnx

    requirements: list[str] = mlflow.onnx.get_default_pip_requirements()
    if registration.loader:
        requirements += [f"{name}=={installed(name)}" for name in ("numpy", "pillow")]
    return requirements


def _input_example(registration: Registration) -> Any:
    if not registration.example_image:
        return None
    import pandas as pd

    return pd.DataFrame({"image": [registration.example_image]})


def _serve_by(registration: Registration, description: Any, folder: Path) -> None:
    """Let the registration's own code serve the model, instead of MLflow's for bare tensors."""
    import mlflow.pyfunc

    for name, text in registration.code.items():
        file = folder / "code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    environment = description.flavors["python_function"]["env"]
    mlflow.pyfunc.add_to_model(
        description,
        loader_module=registration.loader,
        data="model.onnx",
        code="code",
        conda_env=environment["conda"],
        python_env=environment["virtualenv"],
    )
    description.save(str(folder / "MLmodel"))


def _signature(proto: Any, registration: Registration) -> Any:
    """Return what the model takes and gives: pictures, or the graph's tensors (-1: dynamic)."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    if registration.loader:
        anything: Any = AnyType()  # type: ignore[no-untyped-call]
        return ModelSignature(
            inputs=Schema([ColSpec(anything, "image")]),
            outputs=Schema(
                [
                    ColSpec("string", "label"),
                    ColSpec("double", "probability"),
                    ColSpec(anything, "top"),
                ]
            ),
        )

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
