"""MLServer with real scikit-learn models: two versions of one classifier of handwritten digits.

The data set comes with scikit-learn and the versions are trained here, by two algorithms, so that no two answers
about the probabilities of a row are alike: an answer tells which version made it, whatever anybody claims.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import tritonclient.grpc as triton
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from processes import Program, free_ports

OLD, NEW = "1.4.0", "2.0.0"


@dataclass
class Classifier:
    """The two versions, and rows that neither was trained on."""

    files: dict[str, Path]
    rows: np.ndarray
    labels: np.ndarray


def train(folder: Path) -> Classifier:
    """About a second."""
    rows, labels = load_digits(return_X_y=True)
    versions = {
        OLD: LogisticRegression(max_iter=100, random_state=1),
        NEW: RandomForestClassifier(n_estimators=30, random_state=2),
    }
    files = {}
    for version, model in versions.items():
        # Half of the rows are enough to learn from; a scaled row needs fewer rounds of the regression.
        model.fit(rows[::2] / 16.0, labels[::2])
        files[version] = folder / f"digits-{version}.joblib"
        joblib.dump(model, files[version])
    return Classifier(files, rows[1::2] / 16.0, labels[1::2])


class ModelServer:
    """One MLServer process. `models` maps (name, version) to the file of the trained model.

    `settings` are more of each model's, where it is no scikit-learn model as it was trained.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        models: dict[tuple[str, str], Path],
        collector_port: int,
        settings: dict | None = None,
    ):
        self.name = name
        self.folder = folder / name
        self.models = models
        self.settings = settings
        self.port, http = free_ports(2)
        self.folder.mkdir()
        self._write(
            "settings.json",
            {
                "host": "127.0.0.1",
                "http_port": http,
                "grpc_port": self.port,
                "parallel_workers": 0,
                "metrics_endpoint": None,
                "debug": False,
                "server_name": name,
                "tracing_server": f"127.0.0.1:{collector_port}",
            },
        )
        self._lay_out()
        self._program = None

    def _lay_out(self):
        for number, ((model, version), file) in enumerate(self.models.items()):
            place = self.folder / f"model-{number}"
            place.mkdir(exist_ok=True)
            described = {
                "name": model,
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": str(file), "version": version},
                # What ModelMetadata says; MLServer does not take it from the version above.
                "versions": [version],
                **(self.settings or {}),
            }
            self._write(f"{place.name}/model-settings.json", described)

    def _write(self, name: str, content: dict):
        (self.folder / name).write_text(json.dumps(content))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts it without waiting, so that several start at once."""
        mlserver = Path(sys.executable).with_name("mlserver")
        # Its spans leave twice a second instead of every five; runtimes of our own are here.
        env = {"OTEL_BSP_SCHEDULE_DELAY": "500", "PYTHONPATH": str(Path(__file__).parent)}
        self._program = Program(self.name, [mlserver, "start", self.folder], self.folder, env)

    def wait_until_ready(self):
        """Until it says of each of its models that it is ready."""
        with triton.InferenceServerClient(self.address) as client:

            def ready():
                try:
                    return all(client.is_model_ready(model, version) for model, version in self.models)
                except triton.InferenceServerException:
                    return False

            self._program.wait_until("has its models ready", ready)

    def stop(self):
        self._program.stop()

    def become(self, models: dict[tuple[str, str], Path]):
        """Ends it, and starts another with these models in its place."""
        self.stop()
        self.models = models
        self._lay_out()
        self.start()

    def signal(self, number: int):
        self._program.signal(number)

    def kill(self):
        """SIGKILL."""
        self._program.kill()
