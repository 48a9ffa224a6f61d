"""A whole cluster on loopback addresses: control plane, Kueue, JobSet, and KWOK for its nodes."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from gangplan.kube.api import Api, connect
from tests.cluster.servers import build, controllers, karpenter
from tests.cluster.servers.certificates import Authority, service_account_key
from tests.cluster.servers.network import network
from tests.cluster.servers.node.node import Node, all_of
from tests.cluster.servers.process import Server, free_ports

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What differs between the clusters of tests: Kueue's configuration, and its client's rate (its default is 50).

    With `karpenter` its provider for KWOK orders nodes, of the types of `karpenter.TYPES`. With `audit` the API server
    writes down who has written what. Nodes renew their leases four times in `node_lease_s`: a longer one is for many.
    """

    wait_for_pods_ready: str = ""  # how long, as Kueue writes it: 5s; empty: off
    queries_per_second: int = 200
    real_nodes: int = 0  # how many may join
    karpenter: bool = False
    audit: bool = False
    node_lease_s: int = 40


class Cluster:
    """The servers, started in the order in which they need each other."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        build.servers((*build.USUAL, "karpenter") if self.options.karpenter else build.USUAL)
        self.folder = Path(tempfile.mkdtemp(prefix="gangplan-cluster-"))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.network = network(self.options.real_nodes)
        names = (*controllers.PORTS, *karpenter.PORTS)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.servers: dict[str, Server] = {}
        self.nodes: list[Node] = []
        self._api: Api | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """Where the API server writes down who has written what, a line of JSON each."""
        return self.logs / "audit.jsonl"

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self.network.apiserver}:{self.network.port}"

    @property
    def api(self) -> Api:
        """The API, as the administrator."""
        self._api = self._api or connect(kubeconfig=str(self.kubeconfig))
        return self._api

    def start(self, say: Callable[[str], None] = lambda _: None) -> Self:
        """Start everything; on trouble what was started is stopped again."""
        try:
            say("certificates, etcd and the API server")
            self._certificates()
            self._start("etcd", self._etcd())
            self._start("apiserver", self._apiserver())
            self.servers["apiserver"].wait_until(self.serves)
            say("controllers, scheduler and nodes' player")
            self._start("controller-manager", self._controller_manager())
            self._start("scheduler", self._scheduler())
            say("JobSet and Kueue with their webhooks")
            controllers.start_all(self)
            if self.options.karpenter:
                say("Karpenter")
                karpenter.start(self)
        except BaseException:
            self.stop(keep_logs=True)
            raise
        return self

    def start_nodes(self) -> None:
        """Let all real nodes join."""
        for one in all_of(self.folder):
            self.nodes.append(one.start())

    def stop(self, *, keep_logs: bool = False) -> None:
        """Stop every server by its process id, in the opposite order, and delete the folder."""
        for one in self.nodes:
            one.stop()
        for server in reversed(list(self.servers.values())):
            server.stop()
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def _start(self, name: str, command: list[str], **environment: str) -> Server:
        server = Server(name=name, command=command, log=self.logs / f"{name}.log", environment=environment)
        self.servers[name] = server
        server.start()
        return server

    def start_server(self, name: str, command: list[str], **environment: str) -> Server:
        """Start a further server, which is stopped with the others."""
        return self._start(name, command, **environment)

    def binary(self, name: str) -> str:
        """Return the path of a program."""
        return str(build.binary(name))

    # ------------------------------------------------------------ the control plane

    def _certificates(self) -> None:
        authority = Authority.make(self.folder)
        authority.sign("apiserver", "kube-apiserver", address=self.network.apiserver)
        authority.sign("admin", "admin", group="system:masters")
        authority.sign("front-proxy", "front-proxy-client")
        authority.sign("kubelet-client", "kube-apiserver-kubelet-client", group="system:masters")
        service_account_key(self.folder)
        user = {"client-certificate": str(self.folder / "admin.crt"), "client-key": str(self.folder / "admin.key")}
        self.write_kubeconfig(self.kubeconfig, user)
        for name in self.network.nodes:
            file = self.folder / "nodes" / name / "node"
            file.parent.mkdir(parents=True)
            authority.sign(str(file), f"system:node:{name}", group="system:nodes")
            user = {"client-certificate": f"{file}.crt", "client-key": f"{file}.key"}
            self.write_kubeconfig(file.parent / "kubeconfig", user)

    def write_kubeconfig(self, path: Path, user: Object) -> None:
        """Write a kubeconfig for a user of this cluster, with the one context `gangplan`."""
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "gangplan",
                    "cluster": {"server": self.url, "certificate-authority": str(self.folder / "ca.crt")},
                }
            ],
            "users": [{"name": "gangplan", "user": user}],
            "contexts": [{"name": "gangplan", "context": {"cluster": "gangplan", "user": "gangplan"}}],
            "current-context": "gangplan",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(body, sort_keys=False))

    def token_kubeconfig(self, namespace: str, account: str) -> Path:
        """Write a kubeconfig that logs in as a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
        token = self.api.create(path, body)["status"]["token"]
        file = self.folder / f"kubeconfig-{namespace}-{account}"
        self.write_kubeconfig(file, {"token": token})
        return file

    def serves(self) -> bool:
        """Tell whether the API server is ready."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(str(self.folder / "admin.crt"), str(self.folder / "admin.key"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            return bool(opener.open(f"{self.url}/readyz", timeout=2).status == 200)
        except OSError:
            return False

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "etcd-peer"))
        return [
            self.binary("etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # what is tested outlives processes, not the machine
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        here = self.folder
        return [
            self.binary("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            f"--bind-address={self.network.apiserver}",
            f"--secure-port={self.network.port}",
            f"--tls-cert-file={here / 'apiserver.crt'}",
            f"--tls-private-key-file={here / 'apiserver.key'}",
            f"--client-ca-file={here / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={here / 'kubelet-client.crt'}",
            f"--kubelet-client-key={here / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={self.network.services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={here / 'sa.pub'}",
            f"--service-account-signing-key-file={here / 'sa.key'}",
            f"--requestheader-client-ca-file={here / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={here / 'front-proxy.crt'}",
            f"--proxy-client-key-file={here / 'front-proxy.key'}",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={here / 'generated'}",
            *(self._audit() if self.options.audit else ()),
        ]

    def _audit(self) -> list[str]:
        rules = [{"level": "Metadata", "verbs": ["create", "update", "patch", "delete"]}, {"level": "None"}]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(policy))
        whole = (
            "--audit-log-maxsize=100000"  # MB: a file that is begun anew at 100 MB would hide what was written before
        )
        return [f"--audit-policy-file={self.folder / 'audit.yaml'}", f"--audit-log-path={self.audit_log}", whole]

    def _controller_manager(self) -> list[str]:
        return [
            self.binary("kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            "--controllers=*,-nodeipam,-cloud-node-lifecycle,-ttl",  # ttl writes to all nodes when they become 1,000
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--node-monitor-grace-period={self.options.node_lease_s + 10}s",
        ]

    def _scheduler(self) -> list[str]:
        return [
            self.binary("kube-scheduler"),
            f"--kubeconfig={self.kubeconfig}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    # ------------------------------------------------------------ objects

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """Run kubectl as the administrator."""
        command = [self.binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def apply(self, objects: Iterable[Object]) -> None:
        """Apply objects on the server's side, with kubectl, which knows all kinds."""
        text = "\n---\n".join(json.dumps(one) for one in objects)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=text)

    def create_all(self, path: str, objects: Iterable[Object]) -> None:
        """Create many objects of one kind, several at a time."""
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda one: self.api.create(path, one), objects))


def decoded(secret: Object, name: str) -> bytes:
    """Return one entry of a secret."""
    return base64.b64decode(secret.get("data", {}).get(name, ""))
