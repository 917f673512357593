"""More systems to measure against, in an environment of their own (`.venv-peers`): text models only."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.benchmarks.models import Answer
from tests.benchmarks.systems import ROOT, WORKERS, Factory, NotAnAnswer, System, answer_of, free_port
from tests.benchmarks.workloads import Workload

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
# Requests that are predicted together, and how long the first of them waits for the others.
BATCH, BATCH_WAIT_S = 32, 0.005
_TEXTS = frozenset({"hot", "cold", "batch"})


class Peer(System):
    workloads = _TEXTS

    def environment(self) -> dict[str, str]:
        return {"BENCHMARK_STORE": str(self.store), "PYTHONPATH": str(ROOT)}


class LitServe(Peer):
    name = "litserve"
    about = f"LitServe, {WORKERS} workers, batches of up to {BATCH}"
    ready_path = "/health"

    def command(self) -> list[str]:
        return [str(PYTHON), "-m", "tests.benchmarks.apps.peer_litserve", str(self.port)]


class BentoMl(Peer):
    name = "bentoml"
    about = f"BentoML, {WORKERS} workers, batchable"
    ready_path = "/readyz"

    def command(self) -> list[str]:
        service = "tests.benchmarks.apps.peer_bentoml:Sentiment"
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [str(PYTHON), "-m", "bentoml", "serve", service, "--working-dir", str(ROOT), *address]

    def environment(self) -> dict[str, str]:
        home = {"BENTOML_HOME": str(self.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
        return super().environment() | home

    def path(self, workload: Workload) -> str:
        return "/infer"

    def frame(self, workload: Workload) -> tuple[str, str]:
        return '{"texts":["', '"]}'

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        return [answer_of(each) for each in json.loads(body)]


class MlServer(Peer):
    name = "mlserver"
    about = f"MLServer, {WORKERS} workers, adaptive batches of up to {BATCH}"
    ready_path = "/v2/models/sentiment/ready"

    def command(self) -> list[str]:
        repository = self.folder / "repository"
        repository.mkdir(exist_ok=True)
        settings = {
            "host": "127.0.0.1",
            "http_port": self.port,
            "grpc_port": _free_port_but(self.port),
            "metrics_endpoint": None,
            "parallel_workers": WORKERS,
            "debug": False,
            "use_structured_logging": False,
            "environments_dir": str(self.folder / "environments"),
        }
        model = {
            "name": "sentiment",
            "implementation": "tests.benchmarks.apps.peer_mlserver.Sentiment",
            "max_batch_size": BATCH,
            "max_batch_time": BATCH_WAIT_S,
        }
        (repository / "settings.json").write_text(json.dumps(settings))
        (repository / "model-settings.json").write_text(json.dumps(model))
        return [str(PYTHON.with_name("mlserver")), "start", str(repository)]

    def path(self, workload: Workload) -> str:
        return "/v2/models/sentiment/infer"

    def frame(self, workload: Workload) -> tuple[str, str]:
        shape = f'{{"inputs":[{{"name":"text","shape":[{workload.texts},1],"datatype":"BYTES","data":["'
        return shape, '"]}]}'

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
        labels, flat = outputs["predict"], outputs["predict_proba"]
        names: Sequence[str] = json.loads(outputs["labels"][0])
        width = len(names)
        if len(flat) != width * len(labels):
            raise NotAnAnswer("not one row of probabilities for each label")
        rows = [flat[i : i + width] for i in range(0, len(flat), width)]
        return [
            Answer(label, dict(zip(names, row, strict=True))) for label, row in zip(labels, rows, strict=True)
        ]


def _free_port_but(port: int) -> int:
    other = free_port()
    return other if other != port else free_port()


SYSTEMS: dict[str, Factory] = {system.name: system for system in (MlServer, LitServe, BentoMl)}
