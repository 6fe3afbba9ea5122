"""The names of trackers in `report_to`, checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from store.rows import Invalid

DEFAULT = "trackio"  # local and without an account; a run goes on without it


def chosen(names: str, known: Iterable[str], installed: Iterable[str]) -> list[str]:
    """The trackers to report to. Raises Invalid for one that does not exist or is not installed."""
    wanted = [name.strip() for name in names.split(",") if name.strip() not in ("", "none")]
    for name in wanted:
        if name not in known:
            raise Invalid(f"report_to knows no tracker {name!r}: write {', '.join(known)} or none.")
        if name not in installed and name != DEFAULT:
            raise Invalid(
                f"The tracker {name} is not installed. Run `pip install {name}`, "
                "or take it out of report_to."
            )
    return [name for name in wanted if name in installed]


# All names that transformers knows, each with its packages; one of them is enough. The app checks
# them before a run waits in the queue, without an import of transformers.
PACKAGES = {
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


def check(names: str) -> None:
    """Raises Invalid for a name that does not exist or is not installed."""
    installed = [name for name, packages in PACKAGES.items() if any(map(find_spec, packages))]
    chosen(names, PACKAGES, installed)


def trackers(names: str) -> list[str]:
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    return chosen(names, sorted(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations())


def tracker_arguments(names: list[str], run_id: str) -> dict[str, Any]:
    """Keyword arguments of every trainer. Runs of one data directory share a project."""
    arguments: dict[str, Any] = {"report_to": names, "run_name": run_id, "project": "prefloop"}
    if "trackio" in names:
        arguments["trackio_static_space_id"] = False  # no page on the hub at the end
    return arguments
