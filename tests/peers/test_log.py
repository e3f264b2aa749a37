"""The prediction log as others see it: pyarrow and duckdb read it, also while it is written, and an S3 store gets it.

The store is moto's S3 on loopback, with a proxy before it that refuses, hangs up and loses answers.
"""

import http.client
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import boto3
import duckdb
import grpc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from echo import OPTIONS, call
from inference import SERVICE, own, request
from models import NEW, OLD
from processes import Program, free_ports, wait_for
from sidecar import Sidecar, binary
from test_feedback import Reporter
from web import Handler, Server

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
CALLS = 60


def config(folder: Path, servers, **log) -> dict:
    digits = {
        "variants": {
            "old": {"endpoint": f"http://{servers[OLD].address}", "version": OLD},
            "new": {"endpoint": f"http://{servers[NEW].address}", "version": NEW},
            "shadow": {"endpoint": f"http://{servers[NEW].address}", "version": NEW},
        },
        "unit": ["metadata:x-user-id"],
        # It decides, so that there is a change to be audited: its beginning.
        "strategy": {
            "kind": "ab",
            "baseline": "old",
            "weights": {"old": "50%", "new": "50%"},
            "metrics": {"feedback": {"name": "approved", "absolute": "5%"}},
        },
        "shadows": [{"variant": "shadow"}],
        "feedback": {"approved": {"kind": "binary"}},
        "force": "anyone",
    }
    base = {"dir": str(folder / "log"), "flush": "50ms", "seal": {"every": "1s"}}
    return {"models": {"digits": digits}, "log": {**base, **log}}


def work(sidecar: Sidecar, classifier) -> str:
    """Calls by ten users with a report about each, and one that every version refuses; the id of the last answer."""
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        reporter = Reporter(channel)
        for number in range(CALLS):
            message = request(classifier.rows[number : number + 1], raw=True).SerializeToString()
            answer = call(channel, "ModelInfer", [message], [("x-user-id", f"user-{number % 10}")], service=SERVICE)
            assert answer.code == "OK", answer
            reporter.report(own(answer)["parhelion-prediction-id"], number % 2)
        wrong = request(classifier.rows[:1], raw=True, output="absent").SerializeToString()
        assert call(channel, "ModelInfer", [wrong], [("x-user-id", "user-0")], service=SERVICE).code != "OK"
    return own(answer)["parhelion-prediction-id"]


def rows(folder: Path, table: str) -> list[dict]:
    """What pyarrow reads of all files of a table; one that is not whole would raise."""
    files = sorted((folder / "log" / table).glob("**/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.fixture(scope="module")
def logged(folder, servers, classifier):
    """A log of everything, sealed; its folder, and the id of the last call."""
    place = folder / "logged"
    place.mkdir()
    with Sidecar(place, config(place, servers, payloads={"sample": "100%", "as": "decoded"}), "logged") as sidecar:
        told = work(sidecar, classifier)
        wait_for("all is written", lambda: sidecar.counted("parhelion_log_rows_total")[""] >= 3 * CALLS)
        lost = sidecar.counted("parhelion_log_rows_lost_total", "cause")
        assert sum(lost.values()) == 0, lost
    return place, told


def test_pyarrow_reads_every_file_and_all_tables_join(logged):
    folder, _ = logged
    predictions, feedback, shadows = (rows(folder, table) for table in ("predictions", "feedback", "shadows"))
    calls = [row for row in predictions if row["rpc_method"] == f"{SERVICE}/ModelInfer"]
    assert len(calls) == CALLS + 1
    by_id = {row["prediction_uuid"]: row for row in calls}
    assert len(by_id) == CALLS + 1, "no prediction twice"
    assert len(feedback) == CALLS and all(row["prediction_uuid"] in by_id for row in feedback)
    assert all(row["assigned"] == by_id[row["prediction_uuid"]]["assigned"] for row in feedback)
    assert shadows and all(row["prediction_uuid"] in by_id for row in shadows)
    table = ds.dataset(folder / "log" / "predictions", partitioning="hive").to_table()
    assert set(table.column("model").to_pylist()) == {"digits"}


def test_no_unit_is_in_the_log(logged):
    folder, _ = logged
    for file in (folder / "log").glob("**/*.parquet"):
        assert "user-" not in str(pq.ParquetFile(file).read().to_pylist())


def test_every_query_of_the_page_answers_by_duckdb(logged):
    folder, _ = logged
    page = (ROOT / "docs" / "log.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page, re.S)
    assert len(queries) == 10
    database = duckdb.connect()
    for query in queries:
        found = database.execute(query.replace("/var/log/parhelion", str(folder / "log"))).fetchall()
        assert found, query


def test_show_tells_the_story_of_the_id_that_a_caller_was_told(logged):
    folder, told = logged
    done = subprocess.run([binary(), "log", "show", "--log", folder / "log", told], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("prediction ", "assigned  ", "by ab: split", "copy      shadow", "feedback  approved = ", "request ", "trace "):
        assert part in done.stdout, done.stdout


def test_evaluate_agrees_with_the_query_of_the_page(logged):
    folder, _ = logged
    words = ["--feedback", "approved", "--default", "0", "--policy", "new", "--json"]
    done = subprocess.run([binary(), "evaluate", "--log", folder / "log", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["estimates"]
    page = (ROOT / "docs" / "log.md").read_text()
    query = next(query for query in re.findall(r"```sql\n(.*?)```", page, re.S) if "AS ips" in query)
    answer = duckdb.connect().execute(query.replace("/var/log/parhelion", str(folder / "log"))).fetchall()
    ips, snips = next((ips, snips) for _, policy, ips, snips in answer if policy == "new")
    assert found["ips"]["value"] == pytest.approx(ips) and found["snips"]["value"] == pytest.approx(snips)


class Faults(Server):
    """Hands requests on to the store, or does what `next_faults` says: `503`, `hang_up` (before), `lose` (after)."""

    def __init__(self, port: int):
        self.store, self.next_faults, self.done, self.puts = port, [], [], []
        super().__init__(Fault)


class Fault(Handler):
    def do_PUT(self):
        body = self.body()
        fault = self.server.next_faults.pop(0) if self.server.next_faults else None
        self.server.done.append(fault)
        self.server.puts.append((self.path, self.headers.get("If-None-Match")))
        if fault == "hang_up":
            self.close_connection = True
            return
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        store = http.client.HTTPConnection("127.0.0.1", self.server.store)
        # As the caller signed it.
        store.request("PUT", self.path, body, dict(self.headers))
        answer = store.getresponse()
        said = answer.read()
        if fault == "lose":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


def s3(folder: Path, name: str, **environment):
    """moto's S3 with the bucket `predictions`, its client and its port."""
    (port,) = free_ports(1)
    command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    with Program(name, command, folder, environment) as program:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        program.wait_until("answers", lambda: answers(client))
        client.create_bucket(Bucket="predictions")
        yield client, port


@pytest.fixture(scope="module")
def store(folder):
    yield from s3(folder, "moto")


@pytest.fixture(scope="module")
def strict_store(folder):
    """One that knows who may come in: after two requests nobody, for it has no users."""
    yield from s3(folder, "strict-moto", INITIAL_NO_AUTH_ACTION_COUNT="2")


def answers(client) -> bool:
    try:
        client.list_buckets()
        return True
    except Exception:
        return False


def test_every_file_reaches_the_store_once_whatever_it_does(folder, servers, classifier, store, monkeypatch):
    client, port = store
    place = folder / "uploaded"
    place.mkdir()
    with Faults(port) as proxy:
        proxy.next_faults = ["503", "hang_up", "lose", None, "lose"]
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}.items():
            monkeypatch.setenv(name, value)
        with Sidecar(place, config(place, servers, upload="s3://predictions/fleet/a"), "uploaded") as sidecar:
            work(sidecar, classifier)
            wait_for("all is written", lambda: sidecar.counted("parhelion_log_rows_total")[""] >= 3 * CALLS)
            wait_for(
                "all is stored",
                lambda: sidecar.counted("parhelion_log_files_uploaded_total")[""] >= 4
                and not list((place / "log").glob("**/*.parquet")),
            )
        assert "lose" in proxy.done and "503" in proxy.done
    assert all(condition == "*" for _, condition in proxy.puts), "only what is not there is put"
    found, names = stored(client, "fleet/a/", place)
    assert {path.removeprefix("/predictions/") for path, _ in proxy.puts} == {quote(name) for name in names}
    assert any(re.fullmatch(r"fleet/a/predictions/model=digits/date=[-\d]+/hour=\d\d/[-\w]+\.parquet", name) for name in names)
    calls = [row["prediction_uuid"] for row in rows(found, "predictions") + rows(place, "predictions")]
    assert len(calls) == len(set(calls)) and len(calls) > CALLS


def stored(client, prefix: str, place: Path) -> tuple[Path, list[str]]:
    """What lies in the store below a prefix, brought here, and its names; no spool has a second name for the same rows."""
    objects = client.list_objects_v2(Bucket="predictions", Prefix=prefix)["Contents"]
    names = [one["Key"] for one in objects]
    found = place / "found"
    for name in names:
        target = found / "log" / name.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(client.get_object(Bucket="predictions", Key=name)["Body"].read())
    spools = [(name.rsplit("/", 1)[0], Path(name).name[:36]) for name in names]
    assert len(spools) == len(set(spools)), names
    return found, names


def test_what_the_store_has_already_is_sent_under_no_second_name_by_the_next_process(
    folder, servers, classifier, store, monkeypatch
):
    client, port = store
    place = folder / "killed"
    place.mkdir()
    with Faults(port) as proxy:
        # Everything is stored, and no answer ever comes.
        proxy.next_faults = ["lose"] * 1000
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}.items():
            monkeypatch.setenv(name, value)
        settings = config(place, servers, upload="s3://predictions/fleet/b")
        first = Sidecar(place, settings, "killed")
        with first:
            work(first, classifier)
            wait_for("it is stored, and not known to be", lambda: len(proxy.done) >= 2)
            first.program.kill()
        proxy.next_faults = []
        with Sidecar(place, settings, "next") as sidecar:
            here = lambda: [*(place / "log").glob("**/*.parquet"), *(place / "log").glob("spool/*.spool")]  # noqa: E731
            wait_for("all is stored", lambda: not here() and sidecar.counted("parhelion_log_files_uploaded_total")[""])
    found, names = stored(client, "fleet/b/", place)
    assert {path.removeprefix("/predictions/") for path, _ in proxy.puts} == {quote(name) for name in names}
    calls = [row["prediction_uuid"] for row in rows(found, "predictions")]
    assert len(calls) == len(set(calls)) and calls


def test_a_wrong_key_is_named_in_status_and_calls_go_on(folder, servers, classifier, strict_store, monkeypatch):
    _, port = strict_store
    place = folder / "refused"
    place.mkdir()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    with Sidecar(place, config(place, servers, upload="s3://predictions/x"), "refused") as sidecar:
        work(sidecar, classifier)
        failing = lambda: sidecar.counted("parhelion_log_failing", "part")["upload"] == 1  # noqa: E731
        wait_for("it is said", failing)
        command = [binary(), "ctl", "status", "digits", "--json", "--admin", sidecar.admin]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        (trouble,) = [one for one in said["log"]["troubles"] if one["part"] == "upload"]
        assert trouble["now"] and "InvalidAccessKeyId" in trouble["why"], trouble
        assert "secret" not in json.dumps(said["log"])
        work(sidecar, classifier)
        assert list((place / "log").glob("predictions/**/*.parquet")), "what is not stored stays"


def test_readers_never_see_half_a_file(folder, servers, classifier):
    place = folder / "watched"
    place.mkdir()
    seen = 0
    with Sidecar(place, config(place, servers, seal={"every": "1s"}), "watched") as sidecar:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            work(sidecar, classifier)
            # Every file that is there is whole, or this raises.
            seen = max(seen, len(rows(place, "predictions")))
            if seen:
                files = f"{place}/log/*/**/*.parquet"
                duckdb.sql(f"SELECT count(*) FROM read_parquet('{files}', union_by_name = true)").fetchall()
    assert seen >= CALLS
