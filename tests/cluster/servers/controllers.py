"""Kueue, JobSet and KWOK: their published manifests less what needs pods, and their processes as their own accounts."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gangplan.errors import NotFoundError
from tests.cluster.servers import build

if TYPE_CHECKING:
    from tests.cluster.servers.cluster import Cluster

Object = dict[str, Any]

PORTS = (
    "etcd",
    "etcd-peer",
    "kueue-webhook",
    "kueue-metrics",
    "kueue-health",
    "jobset-webhook",
    "jobset-metrics",
    "jobset-health",
)
FRAMEWORKS = ("batch/job", "jobset.x-k8s.io/jobset", "pod")
_NEED_PODS = ("Deployment", "APIService")


def start_all(cluster: Cluster) -> None:
    """Start the three; the kinds of JobSet and of ProvisioningRequests must be there before Kueue starts."""
    start_kwok(cluster)
    everything = [one for name in ("jobset", "provisioningrequests", "kueue") for one in manifests(cluster, name)]
    kinds = [one for one in everything if one["kind"] in ("Namespace", "CustomResourceDefinition")]
    cluster.apply(kinds)
    cluster.apply(one for one in everything if one not in kinds)
    start_kueue(cluster)
    start_jobset(cluster)
    for name in ("jobset", "kueue"):
        copy_certificate(cluster, name)
    for name in ("jobset", "kueue"):
        cluster.servers[name].wait_until(lambda name=name: webhook_serves(cluster, name), 90)


def manifests(cluster: Cluster, name: str) -> list[Object]:
    """Return a controller's own manifests, with its webhooks on the port that it listens on here."""
    text = build.manifest("control-plane", name)
    found = [one for one in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if one]
    port = cluster.ports.get(f"{name}-webhook", 0)
    kept = [one for one in found if one["kind"] not in _NEED_PODS]
    for one in kept:
        if one["kind"] == "Service":
            one["spec"] = {"type": "ExternalName", "externalName": "localhost"}
        for hook in one.get("webhooks", ()):
            hook["clientConfig"]["service"]["port"] = port
        conversion = one.get("spec", {}).get("conversion", {}).get("webhook") if _is_crd(one) else None
        if conversion:
            conversion["clientConfig"]["service"]["port"] = port
    return kept


def _is_crd(one: Object) -> bool:
    return bool(one["kind"] == "CustomResourceDefinition")


def start_kwok(cluster: Cluster) -> None:
    """Start KWOK for the played nodes; pods say by the annotation gangplan.io/pod how they end."""
    stages = cluster.folder / "stages.yaml"
    stages.write_text(pod_stages())
    command = [
        cluster.binary("kwok"),
        f"--kubeconfig={cluster.kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--node-lease-duration-seconds={cluster.options.node_lease_s}",
    ]
    cluster.start_server("kwok", command)


def pod_stages() -> str:
    """Return KWOK's own stages, so that a pod can also hang or fail, and run for a while (gangplan.io/runs-for)."""
    found = list(yaml.safe_load_all(build.manifest("kwok", "stages")))
    ends = next(one for one in found if one["metadata"]["name"] == "pod-complete")
    fails = yaml.safe_load(yaml.safe_dump(ends))
    fails["metadata"]["name"] = "pod-fail"
    template = fails["spec"]["next"]["statusTemplate"]
    template = template.replace("exitCode: 0", "exitCode: 1").replace("Completed", "Error")
    fails["spec"]["next"]["statusTemplate"] = template.replace("Succeeded", "Failed")
    how = '.metadata.annotations["gangplan.io/pod"]'
    for stage, operator, values in ((ends, "NotIn", ["hangs", "fails"]), (fails, "In", ["fails"])):
        stage["spec"]["selector"]["matchExpressions"].append({"key": how, "operator": operator, "values": values})
        lasts = {"expressionFrom": '.metadata.annotations["gangplan.io/runs-for"]'}
        stage["spec"]["delay"] = {"durationMilliseconds": 0, "durationFrom": lasts}
    told = yaml.safe_load(yaml.safe_dump(ends))  # pods that no Job owns run on, unless they are told to end
    told["metadata"]["name"] = "pod-complete-as-told"
    rules = told["spec"]["selector"]["matchExpressions"]
    told["spec"]["selector"]["matchExpressions"] = [one for one in rules if "ownerReferences" not in one["key"]]
    told["spec"]["selector"]["matchExpressions"][-1] |= {"operator": "In", "values": ["completes"]}
    return yaml.safe_dump_all([*found, fails, told])


def start_jobset(cluster: Cluster) -> None:
    """Start JobSet; it looks for its certificate in a folder fixed in its code, and serves that of its own TMPDIR."""
    folder = cluster.folder / "jobset"
    certificates = folder / "certificates"
    first_certificate(cluster, certificates)
    config = {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": True},
        "webhook": {"port": cluster.ports["jobset-webhook"], "certDir": str(certificates)},
        "metrics": {"bindAddress": f"127.0.0.1:{cluster.ports['jobset-metrics']}"},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{cluster.ports['jobset-health']}"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    account = cluster.token_kubeconfig("jobset-system", "jobset-controller-manager")
    command = [cluster.binary("jobset"), f"--config={folder / 'config.yaml'}", f"--kubeconfig={account}"]
    # The start is held up until files lie here, whatever is in them; what is served is from the folder above.
    first_certificate(cluster, Path("/tmp/k8s-webhook-server/serving-certs"))  # noqa: S108
    cluster.start_server("jobset", command)


def start_kueue(cluster: Cluster) -> None:
    """Start Kueue with its own configuration, but for ports, one replica, and what the options say."""
    folder = cluster.folder / "kueue"
    certificates = folder / "certificates"
    first_certificate(cluster, certificates)
    (folder / "config.yaml").write_text(yaml.safe_dump(kueue_config(cluster, certificates)))
    account = cluster.token_kubeconfig("kueue-system", "kueue-controller-manager")
    command = [
        cluster.binary("kueue"),
        f"--config={folder / 'config.yaml'}",
        f"--kubeconfig={account}",
        "--feature-gates=VisibilityOnDemand=false",  # that server wants to be in a pod
    ]
    cluster.start_server("kueue", command)


def kueue_config(cluster: Cluster, certificates: Path) -> Object:
    """Return Kueue's published configuration with what must differ here."""
    published = next(
        one
        for one in manifests(cluster, "kueue")
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "kueue-manager-config"
    )
    config: Object = yaml.safe_load(published["data"]["controller_manager_config.yaml"])
    rate = cluster.options.queries_per_second
    config["leaderElection"] = {"leaderElect": False}
    config["webhook"] = {"port": cluster.ports["kueue-webhook"], "certDir": str(certificates)}
    config["metrics"] = {"bindAddress": f"127.0.0.1:{cluster.ports['kueue-metrics']}"}
    config["health"] = {"healthProbeBindAddress": f"127.0.0.1:{cluster.ports['kueue-health']}"}
    config["clientConnection"] = {"qps": rate, "burst": 2 * rate}
    config["integrations"] = {"frameworks": list(FRAMEWORKS)}
    if cluster.options.wait_for_pods_ready:
        config["waitForPodsReady"] = {"timeout": cluster.options.wait_for_pods_ready, "blockAdmission": False}
    return config


def first_certificate(cluster: Cluster, folder: Path) -> None:
    """Lay a certificate where a controller looks for its own: it then starts at once, and takes its own up later."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (("tls.crt", "apiserver.crt"), ("tls.key", "apiserver.key"), ("ca.crt", "ca.crt")):
        if not (folder / name).exists():
            (folder / name).write_bytes((cluster.folder / source).read_bytes())


def copy_certificate(cluster: Cluster, name: str) -> None:
    """Do a kubelet's work: bring the secret that a controller has made to the files that it serves from."""
    path = f"/api/v1/namespaces/{name}-system/secrets/{name}-webhook-server-cert"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            data = cluster.api.get(path).get("data", {})
        except NotFoundError:
            data = {}
        if data.get("tls.crt"):
            for file, value in data.items():
                (cluster.folder / name / "certificates" / file).write_bytes(base64.b64decode(value))
            return
        time.sleep(0.05)
    raise TimeoutError(f"{name} has made no certificate; see {cluster.logs}")


def webhook_serves(cluster: Cluster, name: str) -> bool:
    """Tell whether a controller's webhook answers with the certificate that it has made."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    own = ssl.PEM_cert_to_DER_cert((cluster.folder / name / "certificates" / "tls.crt").read_text())
    address = ("127.0.0.1", cluster.ports[f"{name}-webhook"])
    try:
        with socket.create_connection(address, timeout=2) as plain, context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True) == own
    except OSError:
        return False
