"""What deploys is well-formed, says what the command line understands, and starts; engines don't run here.

Longer than other files: its tests share the readers of the files in deploy/.
"""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from tests.support.ports import free_port

import lumatile as lt
from lumatile_service.cli.app import app
from lumatile_service.cluster.serve import DRAIN_SECONDS

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = ROOT / "docs" / "deploy.md"
KUBERNETES = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile*[!e]"))
COMMANDS = typer.main.get_command(app).commands
VERSIONS = ("1.31", kubernetes_validate.latest_version())

# the fields of ray.io/v1 in KubeRay 1.7 that may be written; "pod": a pod template
AUTOSCALER = {
    *("resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds", "upscalingMode", "version"),
    *("env", "envFrom", "volumeMounts", "command", "args"),
}
HEAD = {
    *("template", "headService", "enableIngress", "ingressOptions", "resources", "labels", "rayStartParams"),
    "serviceType",
}
WORKER = {
    *("suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "priority", "resources"),
    *("labels", "rayStartParams", "template", "scaleStrategy", "numOfHosts"),
}
CLUSTER = {
    *("upgradeStrategy", "authOptions", "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations"),
    *("enableInTreeAutoscaling", "gcsFaultToleranceOptions", "historyServerOptions", "networkPolicy", "tlsOptions"),
    *("headGroupSpec", "rayVersion", "workerGroupSpecs"),
}
JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "clusterSelector"),
    *("submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode"),
    *("entrypointResources", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished"),
    *("shutdownAfterJobFinishes", "suspend"),
}

# the keys of the Compose specification that are used here
COMPOSE = {"name", "services", "volumes", "secrets"}
SERVICE = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init"),
    *("network_mode", "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "shm_size"),
    *("stop_grace_period", "tmpfs", "volumes"),
}


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def all_documents():
    return [
        pytest.param(document, id=f"{path.parent.name}-{path.stem}-{number}")
        for path in KUBERNETES
        if path.name != "kustomization.yaml"
        for number, document in enumerate(documents(path))
    ]


def find(kind, name=None):
    (found,) = (
        document
        for path in KUBERNETES
        for document in documents(path)
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    )
    return found


def ray_clusters():
    return [find("RayCluster")["spec"], find("RayJob")["spec"]["rayClusterSpec"]]


def groups(cluster):
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pod_templates():
    return [group["template"] for cluster in ray_clusters() for group in groups(cluster)] + [
        find("RayJob")["spec"]["submitterPodTemplate"]
    ]


def containers():
    return [container for template in pod_templates() for container in template["spec"]["containers"]]


def init_containers():
    return [container for template in pod_templates() for container in template["spec"].get("initContainers", ())]


def probes(container):
    """Port and path of each that asks over HTTP."""
    asked = [probe["httpGet"] for probe in container.values() if isinstance(probe, dict) and "httpGet" in probe]
    return [(probe["port"], probe["path"]) for probe in asked]


def pod_annotations():
    """The front's."""
    cluster = find("RayCluster")["spec"]
    (front,) = (group for group in cluster["workerGroupSpecs"] if group["groupName"] == "front")
    return front["template"]["metadata"]["annotations"]


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def parse(words):
    """Parse a command as the command line does, without running it; variables are their defaults, or 1."""
    words = [re.sub(r"\$(?:\{\w+:-(.*?)\}|\{?\w+\}?)", lambda match: match[1] or "1", word) for word in words]
    assert words[0].rpartition("/")[2] == "lumatile"
    assert words[1] in COMMANDS, f"there is no command {words[1]!r}"
    return COMMANDS[words[1]].make_context(words[1], list(words[2:])).params


def lumatile_commands(script):
    """Every `lumatile ...` of a shell script."""
    joined = re.sub(r"\"(\$\w+)\"", r"\1", re.sub(r"\\\n\s*", " ", script))  # no quotes, and one line
    found = re.findall(
        r"(?:^|[;&|'\"]|\bexec | -- )[ \t]*((?:\S*/)?lumatile [a-z-][^\n;&|#'\"]*)", joined, re.MULTILINE
    )
    return [shlex.split(command) for command in found]


# images


def test_dockerfiles_pass_hadolint():
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this platform")
    done = subprocess.run([hadolint, "--no-color", *DOCKERFILES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_built_in_stages_and_run_without_root(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"[\w/]+:[\w.-]+@sha256:[0-9a-f]{64}", base) for base in bases)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert "lumatile status" in path.read_text(encoding="utf-8").partition("HEALTHCHECK")[2]
    parse(json.loads(next(line for line in lines if line.startswith("CMD "))[4:]))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_is_in_its_context(path):
    allowed = {
        line[1:] for line in Path(f"{path}.dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"
    }
    copied = {
        source.rstrip("/")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied <= allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_ray_of_images_is_that_of_manifests():
    for name in ("image", "image-cuda"):
        pins = dict(
            line.split(" ;")[0].strip().split("==")
            for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        )
        assert {cluster["rayVersion"] for cluster in ray_clusters()} == {pins["ray"]}
        assert "aiohttp" in pins, "the head's dashboard takes jobs: ray[default]"


def test_image_names_have_the_version_of_the_project():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    used = {container["image"] for container in (*containers(), *init_containers())}
    used |= {service["image"] for service in compose()["services"].values()}
    used.add(yaml.safe_load((DEPLOY / "ray-up.yaml").read_text())["docker"]["image"])
    assert used == {f"lumatile:{version}", f"lumatile:{version}-cuda"}


# Kubernetes


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", all_documents())
def test_core_kinds_are_valid(document, version):
    if document["apiVersion"].startswith("ray.io/"):
        return
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_pod_templates_of_ray_kinds_are_valid(version):
    for template in pod_templates():
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(whole, version, strict=True)


def test_the_validator_finds_faults():
    fault = {"apiVersion": "v1", "kind": "PodTemplate", "template": {"spec": {"containers": [{"nam": "x"}]}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(fault, VERSIONS[-1], strict=True)


def test_ray_kinds_have_documented_fields_alone():
    cluster, job = find("RayCluster"), find("RayJob")
    assert cluster["apiVersion"] == job["apiVersion"] == "ray.io/v1"
    assert set(cluster) == set(job) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(job["spec"]) <= JOB
    assert job["spec"]["submissionMode"] in {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
    for spec in ray_clusters():
        assert set(spec) <= CLUSTER
        assert set(spec["authOptions"]) <= {"mode", "secretName", "enableK8sTokenAuth"}
        assert set(spec.get("tlsOptions", ())) <= {"enabled"}
        assert set(spec["autoscalerOptions"]) <= AUTOSCALER
        assert spec["autoscalerOptions"].get("upscalingMode", "Default") in {"Default", "Aggressive", "Conservative"}
        assert spec["autoscalerOptions"].get("version", "v2") in {"v1", "v2"}
        assert {"template", "rayStartParams"} <= set(spec["headGroupSpec"]) <= HEAD
        for group in spec["workerGroupSpecs"]:
            assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group) <= WORKER
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_ray_start_takes_the_parameters_of_groups():
    from ray.scripts.scripts import start

    for cluster in ray_clusters():
        for group in groups(cluster):
            parameters = group["rayStartParams"]
            assert all(isinstance(value, str) for value in parameters.values())
            start.make_context("start", [f"--{name}={value}" for name, value in parameters.items()])


def test_heads_have_no_work_and_clusters_ask_for_tokens_and_scale():
    for cluster in ray_clusters():
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert cluster["authOptions"]["mode"] == "token"
        assert cluster["enableInTreeAutoscaling"] is True
        assert any(group["maxReplicas"] > group["minReplicas"] for group in cluster["workerGroupSpecs"])
    assert find("RayCluster")["spec"]["tlsOptions"] == {"enabled": True}


def test_ingest_workers_have_a_gpu_and_outlive_draining():
    cluster = find("RayCluster")["spec"]
    for group in groups(cluster):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "sleep"
        front = group.get("groupName") == "front"
        if front:  # it drains itself, from the signal on
            assert pod["terminationGracePeriodSeconds"] > int(command[1]) + DRAIN_SECONDS
        else:
            assert int(command[1]) > DRAIN_SECONDS
            assert pod["terminationGracePeriodSeconds"] > int(command[1])
        gpus = container["resources"]["limits"].get("nvidia.com/gpu")
        assert gpus == ("1" if group.get("groupName") == "ingest" else None)


def test_pods_may_run_in_a_restricted_namespace():
    contexts = [container["securityContext"] for container in (*containers(), *init_containers())]
    contexts += [cluster["autoscalerOptions"]["securityContext"] for cluster in ray_clusters()]
    for context in contexts:
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 10001
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_probes_are_written_where_the_image_lacks_what_kuberay_runs():
    ours = [group["template"]["spec"]["containers"][0] for cluster in ray_clusters() for group in groups(cluster)]
    assert all("readinessProbe" in container and "livenessProbe" in container for container in ours)


def test_the_service_finds_the_front_and_the_policy_lets_clients_in():
    service, policy, cluster = find("Service")["spec"], find("NetworkPolicy")["spec"], find("RayCluster")
    assert service["selector"] == {"ray.io/cluster": cluster["metadata"]["name"], "ray.io/group": "front"}
    (front,) = (
        group["template"]["spec"]["containers"][0]
        for group in cluster["spec"]["workerGroupSpecs"]
        if group["groupName"] == "front"
    )
    assert service["ports"][0]["targetPort"] in {port["name"] for port in front["ports"]}
    options = parse(next(words for words in lumatile_commands(front["args"][0]) if words[1] == "serve"))
    (clients,) = (rule["ports"] for rule in policy["ingress"] if any(p["port"] == 9876 for p in rule.get("ports", ())))
    assert options["listen"] == f"0.0.0.0:{service['ports'][0]['port']}"
    assert options["data_ports"] == f"{clients[1]['port']}-{clients[1]['endPort']}"
    metrics = service["ports"][1]
    assert options["http"] == f"0.0.0.0:{metrics['port']}"
    assert {metrics["targetPort"], *(name for name, _ in probes(front))} == {"metrics"}
    assert {"name": "metrics", "containerPort": metrics["port"]} in front["ports"]
    assert [{"port": metrics["port"]}] in [rule.get("ports") for rule in policy["ingress"]]
    assert pod_annotations()["prometheus.io/port"] == str(metrics["port"])


def test_what_is_mounted_is_defined_here_or_in_the_guide():
    guide = GUIDE.read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in KUBERNETES)
    for name in set(re.findall(r"secretName: ([\w-]+)", text)):
        assert re.search(rf"create secret (generic|tls) {name}\b", guide), name
    for template in pod_templates():
        names = {volume["name"] for volume in template["spec"].get("volumes", ())}
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", ())):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= names


def test_kustomizations_name_files_that_are_there():
    for path in (path for path in KUBERNETES if path.name == "kustomization.yaml"):
        (document,) = documents(path)
        names = list(document["resources"])
        names += [name for entry in document.get("configMapGenerator", ()) for name in entry["files"]]
        assert [name for name in names if not (path.parent / name).is_file()] == []


def test_scripts_in_containers_parse():
    scripts = [container["args"][-1] for container in containers() if container.get("command", [""])[0] == "/bin/bash"]
    scripts += [container["args"][-1] for container in init_containers()]
    assert len(scripts) == 5
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for program in re.findall(r"<<'(\w+)'\n(.*?)\n\1", script, re.DOTALL):
            ast.parse(program[1])
    words = [command for script in scripts for command in lumatile_commands(script)]
    words += [
        probe["exec"]["command"]
        for container in containers()
        for name, probe in container.items()
        if name.endswith("Probe") and "exec" in probe
    ]
    assert [command[1] for command in words if parse(command)] == ["serve"]


# compose


def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("compose*.yaml")), ids=lambda path: path.name)
def test_compose_files_have_documented_keys_alone(path):
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(document) <= COMPOSE
    for service in document["services"].values():
        assert set(service) <= SERVICE
        assert set(service.get("healthcheck", ())) <= {
            *("test", "interval", "timeout", "start_period", "start_interval", "retries", "disable")
        }
        assert set(service.get("secrets", ())) <= set(compose()["secrets"])
        for mount in service.get("volumes", ()):
            assert mount.split(":")[0] in compose()["volumes"]
        if "build" in service:
            assert ((path.parent / service["build"]["context"]) / service["build"]["dockerfile"]).resolve().is_file()


def test_compose_publishes_what_is_served_to_this_machine_and_stops_after_draining():
    service = compose()["services"]["lumatile"]
    options = parse(service["command"])
    listen, data = options["listen"].rpartition(":")[2], options["data_ports"]
    http = options["http"].rpartition(":")[2]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (listen, data, http)]
    assert seconds(service["stop_grace_period"]) > DRAIN_SECONDS
    test = service["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    assert f'urlopen("http://127.0.0.1:{http}/healthz"' in test[3]


@pytest.fixture
def by_hand(tmp_path):
    """Starts a container's command as a process here, with places of its own instead of a container's."""
    first = free_port(6)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4 + " write,read\n")
    token.chmod(0o640)
    places = {
        "/data": str(tmp_path / "store"),
        "0.0.0.0": "127.0.0.1",
        "9876": str(first),
        "9877": str(first + 5),
        "/run/secrets/lumatile_token": str(token),
        "/etc/lumatile/tokens/token": str(token),
        "/etc/lumatile": str(tmp_path),
    }

    def start(words, environment=None, **options):
        def here(text):
            text = re.sub(r"99\d\d-99\d\d", f"{first + 1}-{first + 4}", text)
            text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)
            return re.sub("|".join(map(re.escape, places)), lambda match: places[match[0]], text)

        words = [here(word) for word in words]
        if (own := Path(sys.executable).parent / words[0]).exists():
            words[0] = str(own)
        environment = {name: here(value) for name, value in (environment or {}).items()}
        return subprocess.Popen(
            words, cwd=tmp_path, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, **options
        )

    return start


def stop(serve, patience):
    serve.send_signal(signal.SIGTERM)
    assert serve.wait(patience) == 0


STATUS = ["lumatile", "status"]
LOG_ONE = compose()["services"]["check"]["command"]


@pytest.mark.alone
def test_the_processes_of_the_compose_file_run_by_hand(by_hand, tmp_path):
    services = compose()["services"]
    service = services["lumatile"]
    with by_hand(service["command"], service["environment"]) as serve:
        try:
            assert "grpc://127.0.0.1:" in serve.stdout.readline(), "it says where it listens"
            with by_hand(service["healthcheck"]["test"][1:], service["environment"]) as health:
                assert health.wait(60) == 0
            with by_hand(LOG_ONE, services["check"]["environment"]) as check:
                assert (check.communicate(timeout=120)[0], check.returncode) == ("store\n", 0)
            with by_hand([*STATUS, "--url=grpc://127.0.0.1:9876"], service["environment"]) as status:
                assert status.wait(60) == 0
            with by_hand([*STATUS, "--url=grpc://127.0.0.1:9876"], stderr=subprocess.PIPE) as stranger:
                assert "token" in stranger.communicate(timeout=60)[1]
                assert stranger.returncode == 1
            stop(serve, seconds(service["stop_grace_period"]))
        finally:
            serve.kill()
    (recording,) = lt.open_store(tmp_path / "store").recordings()
    assert recording.application_id == "check"
    (entity,) = lt.open_store(tmp_path / "store").recording(recording.recording_id).entities()
    assert entity == "camera/rgb"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, as images do")
@pytest.mark.alone
def test_the_front_of_kubernetes_runs_by_hand_with_certificates_as_its_pod_makes_them(by_hand, tmp_path):
    for name in ("authority", "tls"):
        (tmp_path / name).mkdir()
    guide = next(block for block in shell_blocks() if "secret tls lumatile-authority" in block)
    authority = shlex.split(
        next(line for line in guide.replace("\\\n", " ").splitlines() if line.startswith("openssl req"))
    )
    authority = [word.removeprefix("deploy/") for word in authority]
    subprocess.run(authority, cwd=tmp_path / "authority", check=True, capture_output=True)
    for old, new in (("ca.crt", "tls.crt"), ("ca.key", "tls.key")):
        (tmp_path / "authority" / old).rename(tmp_path / "authority" / new)
    pod = next(g for g in find("RayCluster")["spec"]["workerGroupSpecs"] if g["groupName"] == "front")["template"][
        "spec"
    ]
    (certificate,), (front,) = pod["initContainers"], pod["containers"]
    names = {entry["name"]: entry["value"] for entry in certificate["env"] if "value" in entry}
    with by_hand([*certificate["command"], *certificate["args"]], {**names, "POD_IP": "127.0.0.1"}) as making:
        assert making.wait(60) == 0
    (words,) = (command for command in lumatile_commands(front["args"][0]) if command[1] == "serve")
    joins = words.index("--ray-address")
    words = [{"$LUMATILE_STORE": "/data", "$LUMATILE_WORKERS": "1"}.get(word, word) for word in words]
    del words[joins : joins + 2]
    environment = {entry["name"]: entry["value"] for entry in front["env"]}
    with by_hand(words) as serve:
        try:
            assert "grpc+tls://127.0.0.1:" in serve.stdout.readline()
            with by_hand([*STATUS, "--url=grpc+tls://localhost:9876"], environment) as status:
                assert status.wait(60) == 0
            for name, path in (("metrics", pod_annotations()["prometheus.io/path"]), *probes(front)):
                (port,) = (port["containerPort"] for port in front["ports"] if port["name"] == name)
                words = ["python", "-c", f'from urllib.request import *; urlopen("http://127.0.0.1:{port}{path}")']
                with by_hand(words) as probe:
                    assert probe.wait(30) == 0
            program = [word.replace("grpc://", "grpc+tls://") for word in LOG_ONE]
            with by_hand(program, environment) as check:
                assert (check.communicate(timeout=120)[0], check.returncode) == ("store\n", 0)
            stop(serve, pod["terminationGracePeriodSeconds"])
        finally:
            serve.kill()


def test_the_batch_program_logs_files(tmp_path):
    directory = tmp_path / "input"
    names = ["a.png", "left/b c.PNG", "left/d.png"]
    for number, name in enumerate(names):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), number, np.uint8)).save(directory / name, "png")
    (directory / "left" / "notes.txt").write_text("no image")
    words = shlex.split(find("RayJob")["spec"]["entrypoint"])
    mounted = find("RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    assert {words[1].rpartition("/")[0], words[2]} <= {mount["mountPath"] for mount in mounted["volumeMounts"]}
    words[:3] = [sys.executable, str(DEPLOY / "kubernetes" / "batch" / Path(words[1]).name), str(directory)]
    store = tmp_path / "store"
    environment = {**os.environ, "LUMATILE_SINK": str(store), "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("3 files are in recording batch-1\n")
    recording = lt.open_store(store).recording("batch-1")
    assert sorted(recording.entities()) == sorted(names)
    assert recording.latest_at("left/d.png").source()[0, 0, 0] == 2


# one machine, machines


def test_the_systemd_unit_is_one(tmp_path):
    unit = (DEPLOY / "systemd" / "lumatile.service").read_text(encoding="utf-8")
    start = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE).group(1)
    parse([word for word in start.split() if word != "$LUMATILE_OPTIONS"])
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE).group(1)) > DRAIN_SECONDS
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / "lumatile.service"
    copy.write_text(unit.replace("/opt/lumatile/bin/lumatile", sys.executable))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ray_takes_the_file_of_ray_up():
    import jsonschema
    import ray.autoscaler
    from ray.scripts.scripts import start

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((DEPLOY / "ray-up.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        words = shlex.split(command)
        assert words[0] == "ray"
        if words[1] == "start":
            start.make_context("start", words[2:])
    head = shlex.split(config["head_start_ray_commands"][-1])
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(head)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]


# the guide


def shell_blocks():
    return re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_commands_of_the_guide_are_understood():
    words = [command for block in shell_blocks() for command in lumatile_commands(block)]
    assert {command[1] for command in words} >= {"serve", "status"}
    for command in words:
        parse(command)


def test_shell_of_the_guide_parses_and_names_files_that_are_there():
    made = [f"deploy{line}" for line in (DEPLOY / ".gitignore").read_text(encoding="utf-8").splitlines()]
    for block in shell_blocks():
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for name in re.findall(r"(?<![\w/.-])((?:deploy|requirements)/[\w./-]+)", block):
            assert (ROOT / name).exists() or name in made, name


def test_nothing_that_deploys_names_a_registry():
    texts = {path: path.read_text(encoding="utf-8") for path in (*DEPLOY.rglob("*"), GUIDE) if path.is_file()}
    for path in (ROOT / "requirements").iterdir():
        texts[path] = path.read_text(encoding="utf-8")
    assert [
        path
        for path, text in texts.items()
        if re.search(r"\w+\.(?:io|com|org|net)/\w+/|https?://(?!127\.0\.0\.1:)", text)
    ] == []
