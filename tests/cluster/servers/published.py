"""What projects publish beside their programs, read from their own files: manifests, stages, rights."""

from __future__ import annotations

import re
from pathlib import Path

_NAMES = {
    "karpenter.fullname": "karpenter",
    "karpenter.serviceAccountName": "karpenter",
}
_BLOCK = re.compile(r"\{\{-? *with .*?end *-?\}\}", re.DOTALL)
_LABELS = re.compile(r"^ *labels:\n *\{\{- *include \"karpenter.labels\".*$", re.MULTILINE)
_NAMED = re.compile(r"\{\{ *(?:include|template) \"([\w.]+)\" \. *\}\}")


def stages(source: Path) -> str:
    """Return how KWOK plays pods."""
    folder = source / "kustomize/stage/pod/fast"
    return "---\n".join((folder / f"pod-{name}.yaml").read_text() for name in ("ready", "complete", "delete"))


def karpenter(source: Path) -> str:
    """Return Karpenter's kinds of objects, and the rights that its chart gives to its account."""
    kinds = [*(source / "pkg/apis/crds").glob("*.yaml"), *(source / "kwok/apis/crds").glob("*.yaml")]
    chart = source / "kwok/charts/templates"
    rights = [chart / f"{name}.yaml" for name in ("clusterrole", "clusterrole-kwok", "role", "rolebinding")]
    texts = [file.read_text() for file in sorted(kinds)] + [_without_helm(file.read_text()) for file in rights]
    return "\n---\n".join(texts)


def _without_helm(text: str) -> str:
    """Return a template of the chart as Helm renders it with the chart's own values, but for its labels."""
    text = _LABELS.sub("", _BLOCK.sub("", text)).replace("{{ .Release.Namespace }}", "karpenter")
    return _NAMED.sub(lambda found: _NAMES[found[1]], text)
