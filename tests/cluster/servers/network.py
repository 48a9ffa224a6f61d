"""Where the servers and the nodes of a cluster listen: always on the loopback device, so that nobody else sees them.

Real nodes need addresses that hold for all of them. Each cluster with such nodes takes a number N that is free:

- 127.64.N.0/24 are its services; the first one is the API server itself, so that a pod on its node's own network finds
  it by the variables that Kubernetes gives every pod, without a proxy and without a rule in the kernel;
- 127.65.N.K is its node K: a kubelet whose name is an address listens there and reports it as its own;
- 198.18.N.0/24 (set aside for tests by RFC 2544) are its pods that have a network of their own.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.cluster.servers.process import free_ports

MOST_NODES = 15
_NUMBERS = 254


@dataclass(frozen=True, kw_only=True)
class Network:
    """The addresses of one cluster."""

    apiserver: str
    port: int
    services: str
    nodes: tuple[str, ...] = ()


def network(nodes: int) -> Network:
    """Return addresses that nobody uses now, for a cluster with so many real nodes."""
    if not nodes:
        return Network(apiserver="127.0.0.1", port=free_ports(1)[0], services="10.0.0.0/24")
    for step in range(_NUMBERS):
        number = (os.getpid() + step) % _NUMBERS + 1
        if _is_free(f"127.64.{number}.1", 443):
            return Network(
                apiserver=f"127.64.{number}.1",
                port=443,
                services=f"127.64.{number}.0/24",
                nodes=tuple(f"127.65.{number}.{place + 1}" for place in range(min(nodes, MOST_NODES))),
            )
    raise OSError("no address of 127.64.0.0/16 is free")


def pods(node: str) -> str:
    """Return the addresses of a node's pods."""
    _, _, number, place = IPv4Address(node).packed
    return f"198.18.{number}.{16 * place}/28"


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind((address, port))
        except OSError:
            return False
    return True
