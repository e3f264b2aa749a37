"""NVIDIA Triton on the CPU, as it comes inside the package nvidia-pytriton, with models of a few lines each.

The models run in its python backend. Each has the versions 1 and 2, whose answers differ in every number, so that
an answer tells which version made it:

    sums    one answer for each request: the sums of the first one, two, … numbers, times the version
    steps   decoupled, streams only: one answer for each number, that number times the version

Both refuse numbers below zero, and version 2 of steps alone those above 100. Triton lives in an environment of its own,
for a backend built against numpy 1 answers under numpy 2 with tensors that are empty, and says nothing.

Spans are its own only where a test reads them: while it traces, a stream of several messages at once ends it with a
segmentation fault, with nobody between it and its caller, after some hundred streams or at the first.
"""

import contextlib
import os
import signal
import sysconfig
from pathlib import Path

import tritonclient.grpc as triton

from processes import Program, free_ports

VERSIONS = ("1", "2")
NAME = "triton"

CONFIG = """
name: "{model}"
backend: "python"
version_policy {{ all {{}} }}
input [{{ name: "x" data_type: TYPE_FP64 dims: [-1] }}]
output [{{ name: "y" data_type: TYPE_FP64 dims: [-1] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
model_transaction_policy {{ decoupled: {decoupled} }}
"""

# The backend does not heed PYTHONPATH, so a model says where its numpy is.
CODE = """
import sys

sys.path.insert(0, {packages!r})

import numpy as np
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, settings):
        self.version = int(settings["model_version"])

{execute}

    def refusal(self):
        error = backend.TritonError("no such numbers", backend.TritonError.INVALID_ARG)
        return backend.InferenceResponse(error=error)

    def response(self, numbers):
        return backend.InferenceResponse([backend.Tensor("y", np.asarray(numbers) * self.version)])

    def answer(self, request):
        numbers = backend.get_input_tensor_by_name(request, "x").as_numpy()
{answer}
"""

# A decoupled model sends its answers and returns none.
EXECUTE = {
    False: """    def execute(self, requests):
        return [self.answer(request) for request in requests]""",
    True: """    def execute(self, requests):
        for request in requests:
            self.answer(request)""",
}

SUMS = """
        return self.refusal() if (numbers < 0).any() else self.response(np.cumsum(numbers))
"""

STEPS = """
        sender = request.get_response_sender()
        for number in numbers:
            refused = number < 0 or self.version == 2 and number > 100
            sender.send(self.refusal() if refused else self.response([number]))
        sender.send(flags=backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def environment() -> Path:
    """TRITON_VENV, else what `./test` makes."""
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("TRITON_VENV", root / ".venv-triton"))


class TritonServer:
    """One Triton process. Its spans go to the HTTP port of a collector, if given one; it may be killed and started anew."""

    def __init__(self, folder: Path, name: str = NAME, collector_http: int | None = None):
        self.name = name
        self._folder = folder / name
        (self.port,) = free_ports(1)
        self._packages = environment() / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        self._write_models()
        program = self._link_backend() / "bin" / "tritonserver"
        trace = collector_http and [
            "mode=opentelemetry",
            "rate=1",
            "level=TIMESTAMPS",
            f"opentelemetry,url=http://127.0.0.1:{collector_http}/v1/traces",
            f"opentelemetry,resource=service.name={name}",
            "opentelemetry,bsp_schedule_delay=200",
        ]
        self._command = [
            program,
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.port}",
            "--allow-http=false",
            "--allow-metrics=false",
            "--log-info=false",
            *[f"--trace-config={setting}" for setting in trace or ()],
        ]
        # The backend is linked to the library of the Python that runs here.
        libraries = [str(self._packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        self._environment = {"LD_LIBRARY_PATH": ":".join(libraries)}
        self._program = None

    def _write_models(self):
        for model, answer in (("sums", SUMS), ("steps", STEPS)):
            decoupled = model == "steps"
            code = CODE.format(packages=str(self._packages), execute=EXECUTE[decoupled], answer=answer)
            for version in VERSIONS:
                place = self._folder / "models" / model / version
                place.mkdir(parents=True)
                (place / "model.py").write_text(code)
            config = CONFIG.format(model=model, decoupled=str(decoupled).lower())
            (place.parent / "config.pbtxt").write_text(config)

    def _link_backend(self) -> Path:
        """Puts the backend and the stub for this Python, which the package has apart, into one folder."""
        package = self._packages / "pytriton" / "tritonserver"
        if not package.is_dir():
            raise FileNotFoundError(f"{package}: run `./test peers`, or set TRITON_VENV")
        stub = package / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
        place = self._folder / "backends" / "python"
        place.mkdir(parents=True)
        for file in (*(package / "backends" / "python").glob("*.*"), stub):
            (place / file.name).symlink_to(file)
        return package

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts it without waiting."""
        self._program = Program(self.name, self._command, self._folder, self._environment)

    def wait_until_ready(self):
        with triton.InferenceServerClient(self.address) as client:

            def ready():
                try:
                    # It is, once all of its models are.
                    return client.is_server_ready()
                except triton.InferenceServerException:
                    return False

            self._program.wait_until("is ready", ready)

    def signal(self, number: int):
        self._program.signal(number)

    def kill(self):
        """SIGKILL. The processes of its models mostly see that it is gone, and go too; one that waited for it may not."""
        tasks = Path(f"/proc/{self._program.pid}/task")
        models = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        self._program.kill()
        for model in models:
            with contextlib.suppress(ProcessLookupError):
                os.kill(model, signal.SIGKILL)

    def __enter__(self):
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self._program.__exit__()
            raise
        return self

    def __exit__(self, *error):
        self._program.__exit__(*error)
